// Tasks: the list, searched, narrowed, ordered and paged by the scheduler, and one of them beside it.
import { path } from "../api/http";
import { link, status } from "../api/live";
import { usePoll } from "../api/use";
import type { ListTasks, Task } from "../api/types";
import { count, instance, number } from "../format";
import { href, narrow, route } from "../route";
import { Age, Empty, Failed, Heading, Loading } from "../ui/parts";
import { Filter, Select } from "../ui/filter";
import { State } from "../ui/state";
import { Table, type Column } from "../ui/table";
import { TaskSheet } from "./task";

const PAGE = 100;
const STATES = ["running", "waiting", "granted", "starting", "failing", "stopping", "stuck", "held"];

interface Row {
  task: Task;
  at: Task["instances"][number] | undefined;
}

const columns: Column<Row>[] = [
  { name: "Task", sort: "id", grow: true, of: ({ task, at }) => <span class="id">{instance(task.id, at?.index ?? 0)}</span> },
  { name: "State", sort: "state", of: ({ at }) => (at ? <State state={at.state} /> : <State state="waiting" />) },
  { name: "Worker", sort: "worker", of: ({ at }) => <span class="id">{at?.worker || "–"}</span> },
  { name: "Group", sort: "group", at: "tablet", of: ({ task }) => <span class="id">{task.group || "–"}</span> },
  { name: "Weight", sort: "weight", num: true, at: "tablet", of: ({ task }) => number(task.weight) },
  { name: "Restarts", sort: "restarts", num: true, at: "desktop", of: ({ at }) => at?.restarts || "" },
  { name: "Since", sort: "since", num: true, at: "tablet", of: ({ at }) => <Age time={at?.since} /> },
];

export function Tasks() {
  const { id, query } = route.value;
  const q = (name: string) => query.get(name) ?? "";
  const address = path(["tasks"], {
    text: q("q"),
    group: q("group"),
    worker: q("worker"),
    state: q("state"),
    order_by: q("sort"),
    page_size: PAGE,
    page_token: q("page"),
  });
  const { data, error } = usePoll<ListTasks>(address);
  const rows: Row[] = (data?.tasks ?? []).flatMap((task) =>
    (task.instances.length ? task.instances : [undefined])
      .filter((at) => (!q("state") || at?.state === q("state")) && (!q("worker") || at?.worker === q("worker")))
      .map((at) => ({ task, at })),
  );
  const declared = status.value?.tasks?.declared ?? 0;
  const filtered = ["q", "group", "worker", "state"].some((f) => q(f));
  const change = (to: Record<string, string>) => narrow({ ...to, page: "" });
  return (
    <div class={id ? "split open" : "split"}>
      <div class="list-side">
        <Heading title="Tasks" note={status.value ? (filtered && data ? `${count(data.total)} of ${count(declared)} declared` : `${count(declared)} declared`) : undefined} />
        <div class="filters">
          <Filter label="Search" value={q("q")} onChange={(q) => change({ q })} search />
          <Select label="State" value={q("state")} of={STATES} onChange={(state) => change({ state })} />
          <Filter label="Worker" value={q("worker")} onChange={(worker) => change({ worker })} />
          <Filter label="Group" value={q("group")} onChange={(group) => change({ group })} />
        </div>
        {error && link.value === "live" && <Failed what="The list cannot be shown." error={error} />}
        {!data && !error && <Loading />}
        {data && rows.length === 0 && !filtered && (
          <Empty title="No tasks yet" command="rota task apply -f tasks.yaml">
            A task is what should run. Declare some, or give a scheduler a source that lists them.
          </Empty>
        )}
        {data && rows.length === 0 && filtered && (
          <div class="empty">
            <h2>No task is like that</h2>
            <p>
              <button type="button" onClick={() => change({ q: "", group: "", worker: "", state: "" })}>
                Show all {count(declared)}
              </button>
            </p>
          </div>
        )}
        {rows.length > 0 && (
          <Table
            label="Tasks"
            rows={rows}
            columns={columns}
            name={({ task, at }) => `${task.id}#${at?.index ?? 0}`}
            link={({ task }) => href("tasks", task.id, query)}
            chosen={`${id}#0`}
            order={q("sort") || "id"}
            onOrder={(sort) => change({ sort })}
          />
        )}
        {data && (data.next_page_token || q("page")) && (
          <nav class="pager" aria-label="Pages">
            {q("page") && (
              <button type="button" onClick={() => history.back()}>
                Back
              </button>
            )}
            {data.next_page_token && (
              <a class="button" href={href("tasks", "", with_(query, "page", data.next_page_token))}>
                Next {PAGE}
              </a>
            )}
          </nav>
        )}
      </div>
      {id && <TaskSheet id={id} key={id} />}
    </div>
  );
}

function with_(query: URLSearchParams, name: string, value: string): URLSearchParams {
  const next = new URLSearchParams(query);
  next.set(name, value);
  return next;
}
