// Pools: workers that an engine starts. The list, and one of them beside it.
import { useEffect, useState } from "preact/hooks";
import { path, post } from "../api/http";
import { link, may, workers } from "../api/live";
import { usePoll } from "../api/use";
import type { ListPools, Pool, PoolSize } from "../api/types";
import { byName, count, number, plural, span } from "../format";
import { href, narrow, route } from "../route";
import { Age, Bar, Dialog, Empty, Facts, Failed, Heading, Loading, Section, Sheet } from "../ui/parts";
import { Mark, State } from "../ui/state";
import { Table, type Column } from "../ui/table";
import { Timeline } from "../ui/timeline";
import { without } from "./task";

const sizeOf = (s: PoolSize | null | undefined): string => (s ? (s.from === s.to ? count(s.from) : `${count(s.from)} to ${count(s.to)}`) : "–");

const columns: Column<Pool>[] = [
  { name: "Pool", of: (p) => <span class="id">{p.definition?.name}</span> },
  { name: "State", of: (p) => <State state={p.state} /> },
  { name: "Joined", grow: true, of: (p) => <Filled p={p} /> },
  { name: "Size", num: true, at: "tablet", of: (p) => sizeOf(p.definition?.size) },
  { name: "Engine", at: "desktop", of: (p) => p.definition?.engine },
  {
    name: "Failures",
    num: true,
    at: "tablet",
    of: (p) =>
      p.failures ? (
        <span class="bad-text" title={p.error}>
          <Mark of="bad" /> {count(p.failures)}
        </span>
      ) : (
        "–"
      ),
  },
];

// Filled is how many of those that there should be have joined.
function Filled({ p }: { p: Pool }) {
  const words = `${count(p.joined)} of ${count(p.desired)}`;
  return (
    <span class="load-cell">
      <Bar share={p.joined / Math.max(1, p.desired, p.started)} label={`${words} workers have joined`} />
      <span class="num">{words}</span>
    </span>
  );
}

export function Pools() {
  const { id, query } = route.value;
  const { data, error } = usePoll<ListPools>("/v1/pools");
  const rows = [...(data?.pools ?? [])].sort((a, b) => byName(a.definition?.name ?? "", b.definition?.name ?? ""));
  return (
    <div class={id ? "split open" : "split"}>
      <div class="list-side">
        <Heading title="Pools" note="Workers that an engine starts, drains and replaces." />
        {error && link.value === "live" && <Failed what="The list cannot be shown." error={error} />}
        {!data && !error && <Loading />}
        {data && rows.length === 0 && (
          <Empty title="No pools yet" command="rota pool apply -f pool.yaml">
            A pool says how many workers of a kind there should be, and by which engine. Declare one, and it keeps them there.
          </Empty>
        )}
        {rows.length > 0 && (
          <Table label="Pools" rows={rows} columns={columns} name={(p) => p.definition?.name ?? ""} link={(p) => href("pools", p.definition?.name ?? "", query)} chosen={id} />
        )}
      </div>
      {id && <PoolSheet name={id} key={id} />}
    </div>
  );
}

function PoolSheet({ name }: { name: string }) {
  const { query } = route.value;
  const { data: p, error, again } = usePoll<Pool>(path(["pools", name]), 1000);
  const asked = query.get("do") === "scale" && may("Pools_ScalePool");
  return (
    <Sheet title={name} kind="Pool" back={href("pools", "", without(query, "wide", "do"))} wide={query.has("wide")} onWide={() => narrow({ wide: query.has("wide") ? "" : "1" })}>
      {error && !p && <Failed what="This pool cannot be shown." error={error} />}
      {!p && !error && <Loading />}
      {p && (
        <>
          <div class="lead">
            <State state={p.state} />
            <span>
              <strong class="num">{count(p.joined)}</strong> <span class="quiet">of {count(p.desired)} joined</span>
            </span>
            <span class="actions">
              {may("Pools_ScalePool") && p.state !== "deleting" && (
                <button type="button" onClick={() => narrow({ do: "scale" })}>
                  Scale
                </button>
              )}
            </span>
          </div>
          {p.error && (
            <div class="notice bad" role="status">
              <p>
                <Mark of="bad" /> {p.error}
              </p>
              <p class="quiet">
                {plural(p.failures, "failure")} in a row, the last <Age time={p.error_time} ago />
                {p.retry_time && `; it is tried again at ${new Date(p.retry_time).toLocaleTimeString("en-GB")}`}
              </p>
            </div>
          )}
          {p.notes.map((n) => (
            <p class="notice" key={n}>
              <Mark of="warn" /> {n}
            </p>
          ))}
          <Section title="Workers" aside={<span class="quiet">{count(p.workers.length)}</span>}>
            <Members p={p} />
          </Section>
          <Timeline of={{ pool: name }} mine={name} />
          <About p={p} />
          {asked && <Scale p={p} name={name} onClose={() => narrow({ do: "" })} onDone={again} />}
        </>
      )}
    </Sheet>
  );
}

function Members({ p }: { p: Pool }) {
  if (p.workers.length === 0) return <p class="quiet">None is there or on its way.</p>;
  return (
    <table class="plain-table">
      <thead>
        <tr>
          <th scope="col">Worker</th>
          <th scope="col">State</th>
          <th scope="col" class="num">
            Instances
          </th>
          <th scope="col" class="num">
            Since
          </th>
        </tr>
      </thead>
      <tbody>
        {p.workers.map((w) => (
          <tr key={w.name}>
            <td class="reason">
              {workers.value.has(w.name) ? (
                <a class="id" href={href("workers", w.name)}>
                  {w.name}
                </a>
              ) : (
                <span class="id">{w.name}</span>
              )}
              {(w.why || w.detail) && <span class="quiet small">{[w.why, w.detail].filter(Boolean).join("; ")}</span>}
            </td>
            <td>
              <State state={w.state} />
            </td>
            <td class="num">{count(w.instances)}</td>
            <td class="num">
              <Age time={w.joined ?? w.asked} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function About({ p }: { p: Pool }) {
  const d = p.definition;
  const t = d?.template;
  const pairs = (of: Record<string, string | number> | undefined) =>
    of && Object.keys(of).length > 0 && <span class="chips">{Object.entries(of).map(([k, v]) => <code key={k}>{v === "" ? k : `${k}=${v}`}</code>)}</span>;
  return (
    <Section title="What is asked for">
      <Facts
        of={[
          ["Size", sizeOf(d?.size)],
          ["Engine", d?.engine],
          ["Started", count(p.started)],
          ["Preference", d?.preference],
          ["Idle after", span(d?.idle_after_ms || 600_000)],
          ["Start timeout", span(d?.start_timeout_ms || 300_000)],
          ["Zone", t?.zone],
          ["Strength", t?.strength && t.strength !== 1 && number(t.strength)],
          ["At most", t?.max_tasks && plural(t.max_tasks, "task")],
          ["Kinds", t && t.kinds.length > 0 && <span class="chips">{t.kinds.map((k) => <code key={k}>{k}</code>)}</span>],
          ["Labels", pairs(t?.labels)],
          ["Capacity", pairs(t?.capacity)],
          ["Command", t && t.command.length > 0 && <span class="chips">{t.command.map((c, i) => <code key={i}>{c}</code>)}</span>],
        ]}
      />
    </Section>
  );
}

// Scale asks for another size: one number, or a range that follows the load.
function Scale({ p, name, onClose, onDone }: { p: Pool; name: string; onClose: () => void; onDone: () => void }) {
  const [failed, setFailed] = useState<Error>();
  const [asked, setAsked] = useState(false);
  const [from, setFrom] = useState(String(p.definition?.size?.from ?? 0));
  const [to, setTo] = useState(String(p.definition?.size?.to ?? 0));
  useEffect(() => setFailed(undefined), [from, to]);
  const submit = (e: Event) => {
    e.preventDefault();
    setAsked(true);
    post(`${path(["pools", name])}:scale`, { size: { from: Number(from), to: Number(to) } })
      .then(() => (onDone(), onClose()), setFailed)
      .finally(() => setAsked(false));
  };
  const less = Number(to) < p.joined ? p.joined - Number(to) : 0;
  return (
    <Dialog title={`Scale ${name}`} onClose={onClose}>
      <form class="form" onSubmit={submit}>
        <div class="pair">
          <label>
            At least
            <input type="number" min="0" required value={from} onInput={(e) => setFrom(e.currentTarget.value)} />
          </label>
          <label>
            At most
            <input type="number" min="0" required value={to} onInput={(e) => setTo(e.currentTarget.value)} />
          </label>
        </div>
        <p class="quiet">
          {Number(from) === Number(to) ? "That many, whatever the load." : "Between the two it follows what waits and what is idle."}
          {less > 0 && ` ${plural(less, "worker")} would be drained, then stopped.`}
        </p>
        {failed && <Failed what="The size was not changed." error={failed} />}
        <div class="dialog-actions">
          <button type="button" onClick={onClose}>
            Leave it
          </button>
          <button type="submit" class="primary" disabled={asked}>
            Scale {name}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
