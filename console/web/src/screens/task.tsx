// One task: where it is, since when, why there, and why not elsewhere.
import { useState } from "preact/hooks";
import { path, post } from "../api/http";
import { may, workers } from "../api/live";
import { usePoll } from "../api/use";
import type { TaskDefinition, TaskDetail, Why, WhyInstance } from "../api/types";
import { count, instance, load, number, plural } from "../format";
import { href, narrow, route } from "../route";
import { Age, Bar, Facts, Failed, Loading, Section, Sheet } from "../ui/parts";
import { Timeline } from "../ui/timeline";
import { Output } from "../ui/output";
import { Mark, State } from "../ui/state";

const SHOWN = 40; // workers of the table before somebody asks for all

export function TaskSheet({ id }: { id: string }) {
  const detail = usePoll<TaskDetail>(path(["tasks", id]));
  const why = usePoll<Why>(path(["tasks", id, "why"]));
  const { query } = route.value;
  const t = detail.data?.task;
  const placed = detail.data?.instances.filter((i) => i.worker) ?? [];
  const only = why.data?.instances.length === 1;
  return (
    <Sheet title={id} kind="Task" back={href("tasks", "", without(query, "wide"))} wide={query.has("wide")} onWide={() => narrow({ wide: query.has("wide") ? "" : "1" })}>
      {detail.error && !detail.data && <Failed what="This task cannot be shown." error={detail.error} />}
      {!detail.data && !detail.error && <Loading />}
      {detail.data?.suspect && <Suspicion detail={detail.data} again={detail.again} />}
      {why.data?.instances.map((w) => (
        <Placement key={w.instance?.index} w={w} only={only} />
      ))}
      {placed.length > 0 && <Logs id={id} indexes={placed.map((i) => i.index)} />}
      <Timeline of={{ task: id }} mine={id} />
      {t && <Rules t={t} source={detail.data?.source ?? ""} />}
    </Sheet>
  );
}

export function without(query: URLSearchParams, ...names: string[]): URLSearchParams {
  const rest = new URLSearchParams(query);
  for (const n of names) rest.delete(n);
  return rest;
}

// Logs is what an instance writes, now and in the run before.
function Logs({ id, indexes }: { id: string; indexes: number[] }) {
  const { query } = route.value;
  const index = indexes.find((i) => String(i) === query.get("log")) ?? indexes[0] ?? 0;
  const previous = query.has("previous");
  return (
    <Section
      title="Logs"
      aside={
        <span class="actions">
          {indexes.length > 1 && (
            <select aria-label="Instance" value={String(index)} onChange={(e) => narrow({ log: e.currentTarget.value })}>
              {indexes.map((i) => (
                <option key={i} value={i}>
                  {instance(id, i)}
                </option>
              ))}
            </select>
          )}
          <label class="check">
            <input type="checkbox" checked={previous} onChange={() => narrow({ previous: previous ? "" : "1" })} /> The run before
          </label>
        </span>
      }
    >
      <Output key={`${index} ${previous}`} address={path(["tasks", id, "logs"], { index: String(index), previous, follow: !previous })} empty={previous ? "The run before has written nothing." : "It has written nothing yet."} endless={!previous} />
    </Section>
  );
}

function Suspicion({ detail, again }: { detail: TaskDetail; again: () => void }) {
  const [failed, setFailed] = useState<Error>();
  const s = detail.suspect;
  if (!s) return null;
  return (
    <div class="notice bad">
      <p>
        <Mark of="bad" /> <strong>{plural(s.deaths, "worker")} died with this task on board</strong>, the last {s.workers.at(-1)}.{" "}
        {s.state === "held" ? "It does not run until it is released or changed." : `Its state is ${s.state}, since `}
        {s.state !== "held" && <Age time={s.since} />}
      </p>
      {s.state === "held" && may("Tasks_ReleaseTask") && (
        <button type="button" onClick={() => post(`${path(["tasks", s.task])}:release`).then(again, setFailed)}>
          Release it
        </button>
      )}
      {failed && <Failed what="It was not released." error={failed} />}
    </div>
  );
}

function Placement({ w, only }: { w: WhyInstance; only: boolean }) {
  const i = w.instance;
  if (!i) return null;
  return (
    <Section title={only ? "Where" : `Instance ${i.index}`} aside={<State state={i.state} />}>
      <p class="where">
        {i.worker ? (
          <>
            on{" "}
            <a class="id strong" href={href("workers", i.worker)}>
              {i.worker}
            </a>{" "}
            since <Age time={i.since} ago />
          </>
        ) : (
          <>
            on no worker{i.since && " since "}
            {i.since && <Age time={i.since} ago />}
          </>
        )}
        {i.restarts > 0 && <>, started again {count(i.restarts)} times</>}
        {i.generation > 0 && <span class="quiet"> · generation {i.generation}</span>}
      </p>
      {i.error && <pre class="error-text">{i.error}</pre>}
      <h3>{i.worker ? "Why here" : "Why it waits"}</h3>
      <ul class="reasons">
        {w.reasons.map((r) => (
          <li key={r}>{r}</li>
        ))}
      </ul>
      {w.workers.length > 0 && <WhyNot w={w} here={i.worker} />}
    </Section>
  );
}

// WhyNot is the table of every worker, and what of the rules speaks against it.
function WhyNot({ w, here }: { w: WhyInstance; here: string }) {
  const [all, setAll] = useState(false);
  const rows = [...w.workers].sort((a, b) => Number(b.fits) - Number(a.fits));
  const shown = all ? rows : rows.slice(0, SHOWN);
  const fit = rows.filter((r) => r.fits).length;
  const most = [...workers.value.values()].reduce((m, x) => Math.max(m, load(x)), 0) || 1;
  const line = (name: string, verdict: "here" | "fits" | "not", reason: string) => {
    const x = workers.value.get(name);
    return (
      <tr key={name} class={verdict === "here" ? "chosen" : undefined}>
        <td>
          <a class="id" href={href("workers", name)}>
            {name}
          </a>
        </td>
        <td class="verdict">
          <Mark of={verdict === "not" ? "bad" : verdict === "here" ? "ok" : "could"} /> {verdict === "here" ? "here" : verdict === "fits" ? "could" : "no"}
        </td>
        <td class="load">{x && <Bar share={load(x) / most} label={`load ${number(load(x))}`} />}</td>
        <td class="reason">{reason}</td>
      </tr>
    );
  };
  return (
    <>
      <h3>
        {here ? "Why not elsewhere" : "Worker by worker"} <span class="quiet">{fit ? `${count(fit)} of ${plural(rows.length, "worker")} could take it` : `none of ${plural(rows.length, "worker")} can take it`}</span>
      </h3>
      <table class="why">
        <thead>
          <tr>
            <th scope="col">Worker</th>
            <th scope="col">Fits</th>
            <th scope="col">Load</th>
            <th scope="col">What speaks against it</th>
          </tr>
        </thead>
        <tbody>
          {here && line(here, "here", "")}
          {shown.map((r) => line(r.worker, r.fits ? "fits" : "not", r.reason || (r.fits ? "nothing; what runs is not moved without need" : "")))}
        </tbody>
      </table>
      {rows.length > shown.length && (
        <button type="button" onClick={() => setAll(true)}>
          Show all {count(rows.length)} workers
        </button>
      )}
    </>
  );
}

function Rules({ t, source }: { t: TaskDefinition; source: string }) {
  const sums = (of: Record<string, number>) =>
    Object.entries(of)
      .map(([k, v]) => `${k} ${number(v)}`)
      .join(", ");
  return (
    <Section title="As declared">
      <Facts
        of={[
          ["Kind", <span class="id">{t.kind}</span>],
          ["Group", t.group && <span class="id">{t.group}</span>],
          ["Key", t.key && <span class="id">{t.key}</span>],
          ["Weight", number(t.weight)],
          ["Priority", t.priority],
          ["Replicas", t.replicas > 1 && count(t.replicas)],
          ["Mode", t.mode],
          ["Resources", sums(t.resources)],
          ["Requires", t.require.join(", ")],
          ["Prefers", t.prefer.map((p) => `${p.label} (${number(p.weight)})`).join(", ")],
          ["Near or far", t.affinity.map((a) => `${a.required ? "must" : "should"} be ${a.anti ? "away from" : "beside"} ${a.task || `group ${a.group}`}`).join(", ")],
          ["Spread", t.spread && `over ${t.spread.label}${t.spread.by_group ? ", by group" : ""}${Object.keys(t.spread.shares).length ? `: ${sums(t.spread.shares)}` : ""}`],
          ["Gang", t.gang],
          ["Pinned to", t.pinned && <a href={href("workers", t.pinned)}>{t.pinned}</a>],
          ["Preempts", t.preempt && "yes"],
          ["Comes from", source],
        ]}
      />
      {t.payload && (
        <>
          <h3>Payload</h3>
          <pre class="payload">{t.payload}</pre>
        </>
      )}
      {t.payload_base64 && <p class="quiet">The payload is {count(Math.floor((t.payload_base64.length * 3) / 4))} bytes that are not text.</p>}
    </Section>
  );
}
