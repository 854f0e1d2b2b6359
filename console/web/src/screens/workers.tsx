// Workers: the list, and one of them beside it.
import { link, workers } from "../api/live";
import type { Worker } from "../api/types";
import { byName, count, load, number, span } from "../format";
import { href, narrow, route } from "../route";
import { Bar, Empty, Heading, Loading } from "../ui/parts";
import { Filter, Select } from "../ui/filter";
import { State } from "../ui/state";
import { Table, type Column } from "../ui/table";
import { WorkerSheet } from "./worker";

const STATES = ["ready", "cordoned", "draining", "lost", "away"];

const ORDERS: Record<string, (a: Worker, b: Worker) => number> = {
  name: (a, b) => byName(a.name, b.name),
  state: (a, b) => byName(a.state, b.state),
  load: (a, b) => load(a) - load(b),
  instances: (a, b) => a.instances - b.instances,
  zone: (a, b) => byName(a.zone, b.zone),
};

// fullness is a worker's load beside the fullest's, and where the mean of those stands
// that are to stay.
export function fullness(all: Iterable<Worker>): { most: number; mean: number } {
  let most = 0;
  let weight = 0;
  let strength = 0;
  for (const w of all) {
    most = Math.max(most, load(w));
    if (w.state !== "ready" && w.state !== "cordoned") continue;
    weight += w.weight;
    strength += w.strength || 1;
  }
  return { most: most || 1, mean: strength ? weight / strength : 0 };
}

export function Workers() {
  const { id, query } = route.value;
  const q = (name: string) => query.get(name) ?? "";
  const order = q("sort") || "name";
  const compare = ORDERS[order.replace(/^-/, "")] ?? ORDERS.name!;
  const all = [...workers.value.values()];
  const { most, mean } = fullness(all);
  const words = q("q").toLowerCase();
  const rows = all
    .filter((w) => (!q("state") || w.state === q("state")) && (!q("zone") || w.zone === q("zone")))
    .filter((w) => !words || `${w.name} ${w.host} ${w.zone}`.toLowerCase().includes(words))
    .sort((a, b) => (order.startsWith("-") ? -1 : 1) * compare(a, b) || byName(a.name, b.name));
  const zones = [...new Set(all.map((w) => w.zone))].filter(Boolean).sort(byName);
  const columns: Column<Worker>[] = [
    { name: "Worker", sort: "name", of: (w) => <span class="id">{w.name}</span> },
    { name: "State", sort: "state", of: (w) => <State state={w.state} /> },
    { name: "Load", sort: "load", grow: true, of: (w) => <Load w={w} most={most} mean={mean} /> },
    { name: "Instances", sort: "instances", num: true, at: "tablet", of: (w) => count(w.instances) },
    ...(zones.length ? [{ name: "Zone", sort: "zone", at: "tablet" as const, of: (w: Worker) => <span class="id">{w.zone || "–"}</span> }] : []),
    { name: "Host", at: "desktop", of: (w) => <span class="id">{w.host}</span> },
    { name: "Lease", num: true, at: "desktop", of: (w) => (w.lease_left_ms ? span(w.lease_left_ms) : "–") },
  ];
  return (
    <div class={id ? "split open" : "split"}>
      <div class="list-side">
        <Heading title="Workers" note={`${count(all.length)} known`} />
        <div class="filters">
          <Filter label="Name or host" value={q("q")} onChange={(v) => narrow({ q: v })} search />
          <Select label="State" value={q("state")} of={STATES} onChange={(state) => narrow({ state })} />
          {zones.length > 0 && <Select label="Zone" value={q("zone")} of={zones} onChange={(zone) => narrow({ zone })} />}
        </div>
        {all.length === 0 && link.value === "connecting" && <Loading />}
        {all.length === 0 && link.value !== "connecting" && (
          <Empty title="No workers yet" command="rota worker --schedulers HOST:50000">
            A worker is a machine that runs tasks. Start one, and it appears here.
          </Empty>
        )}
        {all.length > 0 && rows.length === 0 && (
          <div class="empty">
            <h2>No worker is like that</h2>
            <p>
              <button type="button" onClick={() => narrow({ q: "", state: "", zone: "" })}>
                Show all {count(all.length)}
              </button>
            </p>
          </div>
        )}
        {rows.length > 0 && (
          <Table
            label="Workers"
            rows={rows}
            columns={columns}
            name={(w) => w.name}
            link={(w) => href("workers", w.name, query)}
            chosen={id}
            order={order}
            onOrder={(sort) => narrow({ sort })}
          />
        )}
      </div>
      {id && <WorkerSheet name={id} key={id} />}
    </div>
  );
}

export function Load({ w, most, mean }: { w: Worker; most: number; mean: number }) {
  const of = mean ? `${count((100 * load(w)) / mean)} % of the mean` : "";
  return (
    <span class="load-cell">
      <Bar share={load(w) / most} mean={mean / most} label={`load ${number(load(w))}${of && `, ${of}`}`} />
      <span class="num">{number(load(w))}</span>
    </span>
  );
}
