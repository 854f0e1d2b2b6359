// One task: where it is, since when, why there, and why not elsewhere.
import { useState } from "preact/hooks";
import { path, post } from "../api/http";
import { may } from "../api/live";
import { usePoll } from "../api/use";
import type { TaskDefinition, TaskDetail, Why, WhyInstance } from "../api/types";
import { count, instance, number, plural } from "../format";
import { href, narrow, route } from "../route";
import { Age, Facts, Failed, Loading, Section, Sheet } from "../ui/parts";
import { Timeline } from "../ui/timeline";
import { Output } from "../ui/output";
import { Mark, State } from "../ui/state";
import { Moves, WhyTable } from "../ui/why";

// How many workers the table has, before and after somebody asks for more, and how often
// the long one is asked for: it is read, not watched.
export const FEW = 40;
export const ALL = 2000;
export const SLOWLY = 15_000; // ms

export function TaskSheet({ id }: { id: string }) {
  const detail = usePoll<TaskDetail>(path(["tasks", id]));
  const [all, setAll] = useState(false);
  const why = usePoll<Why>(path(["tasks", id, "why"], { workers: all ? ALL : FEW }), all ? SLOWLY : undefined, id);
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
        <Placement key={w.instance?.index} w={w} only={only} onMore={all ? undefined : () => setAll(true)} />
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

function Placement({ w, only, onMore }: { w: WhyInstance; only: boolean; onMore?: () => void }) {
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
            for <Age time={i.since} />
          </>
        ) : (
          <>
            on no worker{i.since && " for "}
            {i.since && <Age time={i.since} />}
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
      {w.workers.length > 0 && <WhyTable w={w} onMore={onMore} />}
      <Moves of={w.moves} />
    </Section>
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
