// One worker: its lease, its load, what it runs, and what can be done with it.
import { useEffect, useRef, useState } from "preact/hooks";
import { path, post } from "../api/http";
import { may, status, workers } from "../api/live";
import { usePoll } from "../api/use";
import type { ListTasks, Plan, Stoppable, Worker } from "../api/types";
import { count, instance, load, number, plural, span } from "../format";
import { go, href, narrow, route } from "../route";
import { Age, Dialog, Facts, Failed, Loading, Section, Sheet } from "../ui/parts";
import { Mark, State } from "../ui/state";
import { Timeline } from "../ui/timeline";
import { Moves } from "../ui/moves";
import { Load, fullness } from "./workers";
import { without } from "./task";

type Verb = "cordon" | "drain" | "undrain" | "forget";

// VERBS is what can be done with a worker in each state.
const VERBS: Record<string, Verb[]> = {
  ready: ["cordon", "drain"],
  cordoned: ["undrain", "drain"],
  draining: ["undrain"],
  lost: ["forget"],
  away: ["forget"],
};

const OPERATIONS: Record<Verb, string> = { cordon: "Workers_CordonWorker", drain: "Workers_DrainWorker", undrain: "Workers_UndrainWorker", forget: "Workers_ForgetWorker" };

const SAID: Record<Verb, string> = { cordon: "Cordon", drain: "Drain", undrain: "Take it back", forget: "Forget it" };

export function WorkerSheet({ name }: { name: string }) {
  const { query } = route.value;
  const fresh = usePoll<Worker>(path(["workers", name]), 1000);
  const watched = workers.value.get(name);
  const w = fresh.data && watched ? { ...fresh.data, ...watched, lease_left_ms: fresh.data.lease_left_ms } : (fresh.data ?? watched);
  const [failed, setFailed] = useState<Error>();
  const asked = query.get("do") as Verb | null;
  const act = (verb: Verb) => post(`${path(["workers", name])}:${verb}`).then(() => (verb === "forget" ? go(href("workers")) : setFailed(undefined)), setFailed);
  useEffect(() => {
    // Of what the palette asks, only a drain has a plan to be looked at first.
    if ((asked === "cordon" || asked === "undrain") && may(OPERATIONS[asked])) {
      narrow({ do: "" });
      void act(asked);
    }
  }, [asked]);
  return (
    <Sheet title={name} kind="Worker" back={href("workers", "", without(query, "wide", "do"))} wide={query.has("wide")} onWide={() => narrow({ wide: query.has("wide") ? "" : "1" })}>
      {fresh.error && !w && <Failed what="This worker cannot be shown." error={fresh.error} />}
      {!w && !fresh.error && <Loading />}
      {w && (
        <>
          <div class="lead">
            <State state={w.state} />
            <Lease w={w} />
            <span class="actions">
              {(VERBS[w.state] ?? [])
                .filter((verb) => may(OPERATIONS[verb]))
                .map((verb) => (
                  <button key={verb} type="button" onClick={() => (verb === "drain" ? narrow({ do: "drain" }) : void act(verb))}>
                    {SAID[verb]}
                  </button>
                ))}
            </span>
          </div>
          {failed && <Failed what="Nothing was changed." error={failed} onClose={() => setFailed(undefined)} />}
          <Bearing w={w} />
          <Timeline of={{ worker: name, kind: "worker" }} mine={name} />
          <Runs name={name} />
          <About w={w} />
          {asked === "drain" && may(OPERATIONS.drain) && <Drain name={name} onClose={() => narrow({ do: "" })} onDrain={() => act("drain")} />}
        </>
      )}
    </Sheet>
  );
}

// Lease is how long the worker's grants last without a word, as it runs down and is
// renewed.
function Lease({ w }: { w: Worker }) {
  const most = useRef(0);
  most.current = Math.max(most.current, w.lease_left_ms);
  if (!w.lease_left_ms) return null;
  return (
    <span class="lease">
      <span class="quiet">lease</span>
      <span class="bar">
        <span class="fill" style={{ width: `${(100 * w.lease_left_ms) / most.current}%` }} />
      </span>
      <span class="num">{span(w.lease_left_ms)}</span>
    </span>
  );
}

function Bearing({ w }: { w: Worker }) {
  const { most, mean } = fullness(workers.value.values());
  return (
    <Section title="Load">
      <Load w={w} most={Math.max(most, load(w))} mean={mean} />
      <Facts
        of={[
          ["Instances", `${count(w.instances)}${w.max_tasks ? ` of at most ${count(w.max_tasks)}` : ""}`],
          ["Of the mean", mean > 0 && `${count((100 * load(w)) / mean)} %`],
          ["Strength", w.strength !== 1 && number(w.strength)],
          [
            "Capacity",
            Object.entries(w.capacity)
              .map(([k, v]) => `${k} ${number(v)}`)
              .join(", "),
          ],
        ]}
      />
    </Section>
  );
}

function Runs({ name }: { name: string }) {
  const { data, error } = usePoll<ListTasks>(path(["tasks"], { worker: name, page_size: 100 }), 2000);
  const rows = (data?.tasks ?? []).flatMap((t) => t.instances.filter((i) => i.worker === name).map((i) => ({ t, i })));
  return (
    <Section title="What it runs" aside={<a href={href("tasks", "", { worker: name })}>All in the list of tasks</a>}>
      {error && !data && <Failed what="What it runs cannot be shown." error={error} />}
      {data && rows.length === 0 && <p class="quiet">Nothing.</p>}
      {rows.length > 0 && (
        <table class="plain-table">
          <thead>
            <tr>
              <th scope="col">Task</th>
              <th scope="col">State</th>
              <th scope="col" class="num">
                Weight
              </th>
              <th scope="col" class="num">
                Since
              </th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ t, i }) => (
              <tr key={`${t.id}#${i.index}`}>
                <td>
                  <a class="id" href={href("tasks", t.id)}>
                    {instance(t.id, i.index)}
                  </a>
                </td>
                <td>
                  <State state={i.state} />
                </td>
                <td class="num">{number(t.weight)}</td>
                <td class="num">
                  <Age time={i.since} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {data?.next_page_token && <p class="quiet">The first 100.</p>}
    </Section>
  );
}

function About({ w }: { w: Worker }) {
  const version = status.value?.version;
  return (
    <Section title="About">
      <Facts
        of={[
          ["Host", <span class="id">{w.host}</span>],
          ["Process", w.pid],
          ["Zone", w.zone],
          ["Scheduler", w.scheduler],
          ["Version", w.version + (version && version !== w.version ? ` (the scheduler is ${version})` : "")],
          ["Clock", w.clock_ahead_ms ? `${span(Math.abs(w.clock_ahead_ms))} ${w.clock_ahead_ms > 0 ? "ahead" : "behind"}` : ""],
          ["Certificate ends", w.certificate_ends && <Age time={w.certificate_ends} />],
          ["Kinds", w.kinds.length > 0 && <span class="chips">{w.kinds.map((k) => <code key={k}>{k}</code>)}</span>],
          [
            "Labels",
            Object.keys(w.labels).length > 0 && (
              <span class="chips">
                {Object.entries(w.labels).map(([k, v]) => (
                  <code key={k}>
                    {k}
                    {v && `=${v}`}
                  </code>
                ))}
              </span>
            ),
          ],
        ]}
      />
    </Section>
  );
}

// Drain shows the plan of a drain, and carries it out once somebody has seen it.
function Drain({ name, onClose, onDrain }: { name: string; onClose: () => void; onDrain: () => Promise<void> }) {
  const plan = usePoll<Plan>(path(["plan"], { without: name }), 60_000);
  const stop = usePoll<Stoppable>(path(["workers:stoppable"], { names: name }).replace("%3A", ":"), 60_000);
  const s = plan.data?.summary;
  const more = (s?.waiting ?? 0) - (s?.waiting_already ?? 0);
  return (
    <Dialog title={`Drain ${name}`} onClose={onClose}>
      {plan.error && !plan.data && <Failed what="There is no plan." error={plan.error} />}
      {!plan.data && !plan.error && <Loading />}
      {s && (
        <>
          <p>
            <strong>{plural(s.moves, "instance")} would move</strong>
            {more > 0 ? (
              <>
                , <span class="bad-text">{count(more)} more would wait</span>
              </>
            ) : (
              ", none more would wait"
            )}
            . Imbalance {s.imbalance_before.toFixed(3)}, then {s.imbalance_after.toFixed(3)}.
          </p>
          {(stop.data?.reasons ?? []).map((r) => (
            <p key={r}>
              <Mark of="warn" /> {r}
            </p>
          ))}
          <Moves plan={plan.data!} most={8} />
          <p class="quiet">
            It is given nothing new, and what it runs moves as the limits of moves allow. <a href={href("plan", "", { without: name })}>The whole plan</a>
          </p>
        </>
      )}
      <div class="dialog-actions">
        <button type="button" onClick={onClose}>
          Leave it
        </button>
        <button
          type="button"
          class="primary"
          disabled={!plan.data}
          onClick={() => {
            void onDrain();
            go(href("workers", name, without(route.value.query, "do")));
          }}
        >
          Drain {name}
        </button>
      </div>
    </Dialog>
  );
}
