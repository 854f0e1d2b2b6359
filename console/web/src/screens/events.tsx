// Events: the log of the cluster, narrowed, live.
import { useEvents, type EventFilter } from "../api/events";
import { link } from "../api/live";
import { count } from "../format";
import { href, narrow, route } from "../route";
import { EventLine } from "../ui/events";
import { fold } from "../ui/fold";
import { Filter, Select } from "../ui/filter";
import { Empty, Failed, Heading, Loading } from "../ui/parts";

const PAGE = 100;
const KINDS = ["worker", "pass", "task", "task.failed", "task.moved", "job", "program", "pool", "leader", "source"];
const FILTERS = ["task", "worker", "job", "program", "pool", "kind"] as const;

export function Events() {
  const { query } = route.value;
  const q = (name: string) => query.get(name) ?? "";
  const filter: EventFilter = {};
  for (const f of FILTERS) if (q(f)) filter[f] = q(f);
  const happened = useEvents(filter, PAGE, q("page"));
  const narrowed = Object.keys(filter).length > 0;
  const change = (to: Record<string, string>) => narrow({ ...to, page: "" });
  return (
    <div class="split">
      <div class="list-side">
        <Heading title="Events" note={q("page") ? "What happened before." : "What happened, the latest first, as it happens."} />
        <div class="filters">
          <Select label="Kind" value={q("kind")} of={KINDS.includes(q("kind")) || !q("kind") ? KINDS : [q("kind"), ...KINDS]} onChange={(kind) => change({ kind })} />
          <Filter label="Task" value={q("task")} onChange={(task) => change({ task })} />
          <Filter label="Worker" value={q("worker")} onChange={(worker) => change({ worker })} />
          <Filter label="Job" value={q("job")} onChange={(job) => change({ job })} />
          <Filter label="Program" value={q("program")} onChange={(program) => change({ program })} />
          <Filter label="Pool" value={q("pool")} onChange={(pool) => change({ pool })} />
        </div>
        {!happened && <Loading />}
        {happened?.error && link.value === "live" && <Failed what="The log cannot be shown." error={happened.error} />}
        {happened && !happened.error && happened.events.length === 0 && !narrowed && (
          <Empty title="Nothing has happened yet" command="rota events -f">
            Workers that come and go, passes and their moves, what becomes of tasks, jobs, programs and pools: all of it is told here.
          </Empty>
        )}
        {happened && !happened.error && happened.events.length === 0 && narrowed && (
          <div class="empty">
            <h2>No event is like that</h2>
            <p>
              <button type="button" onClick={() => change({ task: "", worker: "", job: "", program: "", pool: "", kind: "" })}>
                Show all
              </button>
            </p>
          </div>
        )}
        {happened?.missed && <p class="notice">Some events between these are not kept any more.</p>}
        {happened && happened.events.length > 0 && (
          <ol class="feed card log" aria-label={`${count(happened.events.length)} events`}>
            {fold(happened.events).map((of) => (
              <EventLine key={of.e.id} of={of} />
            ))}
          </ol>
        )}
        {happened && (happened.more || q("page")) && (
          <nav class="pager" aria-label="Pages">
            {q("page") && (
              <button type="button" onClick={() => change({})}>
                Latest
              </button>
            )}
            {happened.more && (
              <a class="button" href={href("events", "", { ...(filter as Record<string, string>), page: happened.more })}>
                Before these
              </a>
            )}
          </nav>
        )}
      </div>
    </div>
  );
}
