// Overview: is it well? One line of facts, the map, what needs somebody, what happened.
import { everLive, link, may, status, workers } from "../api/live";
import { post } from "../api/http";
import { Legend, Map_ } from "../overview/map";
import { Recent } from "../overview/recent";
import { bytes, count, number, plural } from "../format";
import { href } from "../route";
import { Age, Empty, Failed } from "../ui/parts";
import { Mark, type Tone } from "../ui/state";
import type { ListFunctions, Status } from "../api/types";
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { calls, sumUp } from "../api/functions";
import { usePoll } from "../api/use";

export function Overview() {
  const s = status.value;
  const ws = workers.value;
  if (!s) return <p class="quiet pad">{link.value === "lost" ? "nothing is known yet" : "connecting"}</p>;
  return (
    <div class="overview">
      <h1 class="hidden">Overview</h1>
      <Numbers s={s} />
      <Attention s={s} />
      {ws.size === 0 && (!everLive.value || declared(s)) ? (
        <section class="card map-card" aria-busy="true" aria-label="Map of the workers" />
      ) : ws.size === 0 ? (
        <Empty title="No workers yet" command="rota worker --schedulers HOST:50000">
          A worker is a machine that runs tasks. Start one, and it appears here.
        </Empty>
      ) : (
        <section class="card map-card" aria-label="Map of the workers">
          <Map_ />
          <p class="legend quiet">
            <Legend />
          </p>
        </section>
      )}
      <Recent />
    </div>
  );
}

// declared says whether there are workers, which are only not told yet.
const declared = (s: Status): boolean => !!s.workers && s.workers.ready + s.workers.draining + s.workers.lost > 0;

function Fact({ n, word, to, of = "idle" }: { n: string; word: string; to: string; of?: Tone }) {
  return (
    <a class={`fact ${of}`} href={to}>
      <strong>{n}</strong> <span>{word}</span>
    </a>
  );
}

function Numbers({ s }: { s: Status }) {
  const t = s.tasks;
  const waiting = Math.max(0, (t?.waiting ?? 0) - (t?.failing ?? 0)); // the API counts those that fail among them
  const w = s.workers;
  const { data } = usePoll<ListFunctions>(may("Functions_ListFunctions") ? "/v1/functions" : undefined);
  useEffect(() => data && sumUp(data.functions), [data]);
  const c = data?.functions.length ? calls.value : undefined;
  return (
    <div class="numbers">
      <Fact n={count(t?.running ?? 0)} word="running" to={href("tasks", "", { state: "running" })} />
      <Fact n={count(waiting)} word="waiting" to={href("tasks", "", { state: "waiting" })} of={waiting ? "warn" : "idle"} />
      <Fact n={count(t?.failing ?? 0)} word="failing" to={href("tasks", "", { state: "failing" })} of={t?.failing ? "bad" : "idle"} />
      <Fact n={count(s.moving)} word="moving" to={href("plan")} />
      <Fact
        n={count(w?.ready ?? 0)}
        word={`${w?.ready === 1 ? "worker" : "workers"} ready${w?.draining ? `, ${count(w.draining)} draining` : ""}`}
        to={href("workers")}
      />
      {!!w?.lost && <Fact n={count(w.lost)} word="lost" to={href("workers", "", { state: "lost" })} of="bad" />}
      <Fact n={s.imbalance.toFixed(s.imbalance < 1.01 ? 3 : 2)} word="imbalance" to={href("workers", "", { sort: "-load" })} />
      {c && (
        <Fact
          n={number(c.rate < 10 ? Math.round(c.rate * 10) / 10 : Math.round(c.rate))}
          word={`calls/s${c.slowest ? `, p99 ${c.slowest < 10 ? number(c.slowest) : count(c.slowest)} ms` : ""}${c.errors > 0.01 ? `, ${count(100 * c.errors)} % fail` : ""}`}
          to={href("functions")}
          of={c.errors > 0.01 ? "bad" : "idle"}
        />
      )}
    </div>
  );
}

// Attention is what somebody has to look at; nothing stands there if nothing has.
function Attention({ s }: { s: Status }) {
  const [failed, setFailed] = useState<Error>();
  const rows: { tone: Tone; text: ComponentChildren }[] = [];
  if (!s.leader) rows.push({ tone: "bad", text: "No scheduler leads: nothing is placed or moved before one does." });
  if (s.barrier) rows.push({ tone: "warn", text: "The workers wait for each other before the first plan." });
  for (const x of s.suspects) {
    rows.push({
      tone: x.state === "held" ? "bad" : "warn",
      text: (
        <>
          <a href={href("tasks", x.task)} class="id">
            {x.task}
          </a>{" "}
          was on {plural(x.deaths, "worker")} that died{x.state === "held" ? "; it is held until somebody releases it" : `; state ${x.state}`}.
        </>
      ),
    });
  }
  for (const x of s.sources) {
    if (x.error) rows.push({ tone: "bad", text: `Source ${x.name} cannot be read: ${x.error}` });
    if (x.held) {
      rows.push({
        tone: "warn",
        text: (
          <>
            The list of {x.name} is held since <Age time={x.held.since} ago />: it would remove {count(x.held.removes)} of {plural(x.held.of, "task")}.{" "}
            {may("Cluster_ConfirmList") && (
              <button type="button" onClick={() => post("/v1/schedule:confirm", { source: x.name }).then(() => setFailed(undefined), setFailed)}>
                Take it
              </button>
            )}
          </>
        ),
      });
    }
  }
  for (const m of s.store) {
    if (m.error) rows.push({ tone: "bad", text: `Store ${m.endpoint} does not answer: ${m.error}` });
    for (const a of m.alarms) rows.push({ tone: "bad", text: `Store ${m.endpoint} has raised ${a}.` });
    if (m.quota_bytes && m.db_in_use_bytes / m.quota_bytes > 0.8) {
      rows.push({ tone: "warn", text: `Store ${m.endpoint} is nearly full: ${bytes(m.db_in_use_bytes)} of ${bytes(m.quota_bytes)}.` });
    }
  }
  for (const u of s.unread) rows.push({ tone: "bad", text: `The value of ${u.key} cannot be read and is set aside: ${u.error}` });
  if (!rows.length && !failed) return null;
  return (
    <section class="attention" aria-label="What needs attention">
      <ul>
        {rows.map((r, i) => (
          <li key={i}>
            <Mark of={r.tone} /> <span>{r.text}</span>
          </li>
        ))}
      </ul>
      {failed && <Failed what="The list was not taken." error={failed} onClose={() => setFailed(undefined)} />}
    </section>
  );
}
