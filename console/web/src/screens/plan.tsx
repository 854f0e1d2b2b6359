// Plan: what would move, if these workers left, others joined, these tasks were declared.
import { useEffect, useState } from "preact/hooks";
import { post } from "../api/http";
import { link, may, workers } from "../api/live";
import { few } from "../api/tasks";
import type { Plan as PlanAnswer, ReadTasks, TaskDefinition } from "../api/types";
import { byName, count, instance, plural } from "../format";
import { Flow } from "../overview/flow";
import { href, narrow, route } from "../route";
import { Failed, Heading, IconButton, Loading, Section } from "../ui/parts";
import { Moves, streams } from "../ui/moves";

const WAITING = 100; // rows

interface File_ {
  name: string;
  tasks: TaskDefinition[];
}

const LARGEST = 4_000_000; // bytes that the API takes at once

// read has the scheduler read a file of tasks, as the command line does: YAML, JSON, JSON lines or CSV.
async function read(file: File): Promise<File_> {
  if (file.size > LARGEST) throw new Error(`${file.name}: more than 4 MB; rota task apply -f takes it`);
  const { tasks } = await post<ReadTasks>("/v1/tasks:read", { name: file.name, text: await file.text() });
  return { name: file.name, tasks };
}

export function Plan() {
  const { query } = route.value;
  const without = (query.get("without") ?? "").split(",").filter(Boolean);
  const extra = Math.max(0, Math.min(1000, Number(query.get("with")) || 0));
  const [file, setFile] = useState<File_>();
  const [plan, setPlan] = useState<PlanAnswer>();
  const [failed, setFailed] = useState<Error>();
  const [asking, setAsking] = useState(true);
  const [done, setDone] = useState("");
  const [turn, setTurn] = useState(0);
  const live = link.value === "live";
  const key = `${without.join(",")} ${extra}`;
  useEffect(() => {
    let gone = false;
    setAsking(true);
    const due = setTimeout(() => {
      post<PlanAnswer>("/v1/plan", { without, with: extra, all: few.peek() === true, ...(file && { tasks: file.tasks }) })
        .then(
          (p) => gone || (setPlan(p), setFailed(undefined)),
          (e: Error) => gone || (setFailed(e), setPlan(undefined)),
        )
        .finally(() => gone || setAsking(false));
    }, 150);
    return () => ((gone = true), clearTimeout(due));
  }, [key, file, turn, live]);
  const take = (f: File | undefined) => f && read(f).then((x) => (setFile(x), setFailed(undefined)), setFailed);
  const s = plan?.summary;
  const anew = (s?.waiting ?? 0) - (s?.waiting_already ?? 0); // that would not wait without the plan
  const change = (list: string[]) => narrow({ without: list.join(",") });
  return (
    <div class="plan" onDragOver={(e) => e.preventDefault()} onDrop={(e) => (e.preventDefault(), void take(e.dataTransfer?.files[0]))}>
      <Heading title="Plan" note="What the next pass would move, and what would move if workers left or came.">
        {may("Cluster_NotifySchedule") && (
          <button
            type="button"
            onClick={() => post("/v1/schedule:notify", { reason: "console" }).then(() => (setDone("Asked for a pass."), setTurn((n) => n + 1)), setFailed)}
          >
            Ask for a pass now
          </button>
        )}
      </Heading>
      <div class="ifs card">
        <Leaving chosen={without} onChange={change} />
        <label class="with">
          Workers added
          <input type="number" min="0" max="1000" inputMode="numeric" value={extra} onInput={(e) => narrow({ with: e.currentTarget.value === "0" ? "" : e.currentTarget.value })} />
        </label>
        <div class="file">
          <span class="label">Tasks added</span>
          {file ? (
            <span class="chip">
              {file.name}, {plural(file.tasks.length, "task")}
              <IconButton icon="close" label={`Leave ${file.name} out`} onClick={() => setFile(undefined)} />
            </span>
          ) : (
            <label class="button pick">
              Choose or drop a file
              <input type="file" class="hidden" accept=".yaml,.yml,.json,.jsonl,.ndjson,.csv" onChange={(e) => take(e.currentTarget.files?.[0])} />
            </label>
          )}
        </div>
      </div>
      {done && (
        <p class="notice" role="status">
          {done}
        </p>
      )}
      {failed && <Failed what="There is no plan." error={failed} onClose={() => setFailed(undefined)} />}
      {!s && asking && !failed && <Loading />}
      {plan && s && (
        <div class={asking ? "asking" : ""}>
          <p class="verdict-line" role="status">
            {s.moves === 0 && anew === 0 ? (
              <strong>Nothing would move.</strong>
            ) : (
              <>
                <strong>{plural(s.moves, "move")}</strong>: {count(s.forced)} forced, {count(s.chosen)} chosen; {count(s.placed)} placed, {count(s.stopped)} stopped,{" "}
                <span class={anew ? "bad-text" : ""}>{s.waiting_already ? `${count(anew)} more` : count(anew)} would wait</span>.
              </>
            )}{" "}
            <span class="quiet">
              Imbalance {s.imbalance_before.toFixed(3)}
              {s.imbalance_after !== s.imbalance_before && `, then ${s.imbalance_after.toFixed(3)}`}.
            </span>
          </p>
          {s.moves > plan.moves.length && <p class="quiet">The first {count(plan.moves.length)} moves are drawn.</p>}
          {plan.moves.length > 0 && (
            <div class="plan-picture">
              <section class="card" aria-label="From where to where">
                <Flow streams={streams(plan.moves)} gone={without} />
              </section>
              <Reasons plan={plan} />
            </div>
          )}
          <Apply file={file} without={without} onDone={(text) => (setDone(text), setFile(undefined), setTurn((n) => n + 1))} onFail={setFailed} />
          {plan.moves.length > 0 && (
            <Section title="From where to where">
              <Moves plan={plan} most={30} />
            </Section>
          )}
          <Waiting title="What would wait" all={anew} of={plan.waiting.filter((w) => !w.already)} />
          <Waiting title="What waits already" all={s.waiting_already} of={plan.waiting.filter((w) => w.already)} />
        </div>
      )}
    </div>
  );
}

// Leaving chooses the workers that the plan does without.
function Leaving({ chosen, onChange }: { chosen: string[]; onChange: (names: string[]) => void }) {
  const [text, setText] = useState("");
  const names = [...workers.value.keys()].filter((n) => !chosen.includes(n)).sort(byName);
  const found = text ? names.filter((n) => n.toLowerCase().includes(text.toLowerCase())) : names;
  return (
    <fieldset class="leaving">
      <legend>Workers that leave</legend>
      <div class="chips">
        {chosen.map((n) => (
          <span key={n} class="chip on">
            <span class="id">{n}</span>
            <IconButton icon="close" label={`Keep ${n}`} onClick={() => onChange(chosen.filter((c) => c !== n))} />
          </span>
        ))}
        {found.slice(0, 12).map((n) => (
          <button key={n} type="button" class="chip id" aria-label={`Plan without ${n}`} onClick={() => (onChange([...chosen, n]), setText(""))}>
            {n}
          </button>
        ))}
        {names.length > 12 && (
          <input
            type="search"
            aria-label="Find a worker that leaves"
            placeholder={`${count(names.length)} workers`}
            value={text}
            onInput={(e) => setText(e.currentTarget.value)}
          />
        )}
      </div>
    </fieldset>
  );
}

function Reasons({ plan }: { plan: PlanAnswer }) {
  const by = new Map<string, number>();
  for (const m of plan.moves) by.set(m.reason, (by.get(m.reason) ?? 0) + 1);
  const rows = [...by].sort((a, b) => b[1] - a[1]).slice(0, 12);
  return (
    <Section title="Why">
      <ul class="counts">
        {rows.map(([reason, n]) => (
          <li key={reason}>
            <strong class="num">{count(n)}</strong> <span>{reason}</span>
          </li>
        ))}
      </ul>
    </Section>
  );
}

function Waiting({ title, all, of }: { title: string; all: number; of: PlanAnswer["waiting"] }) {
  if (of.length === 0) return null;
  return (
    <Section title={title} aside={<span class="quiet">{of.length > WAITING || of.length < all ? `the first ${count(Math.min(WAITING, of.length))} of ${count(all)}` : count(all)}</span>}>
      <table class="plain-table">
        <thead>
          <tr>
            <th scope="col">Task</th>
            <th scope="col">Why</th>
          </tr>
        </thead>
        <tbody>
          {of.slice(0, WAITING).map((w) => (
            <tr key={`${w.task}#${w.index}`}>
              <td>
                <a class="id" href={href("tasks", w.task)}>
                  {instance(w.task, w.index)}
                </a>
              </td>
              <td class="reason">{w.reason}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

// Apply carries out what was planned, as far as that is in anybody's hand.
function Apply({ file, without, onDone, onFail }: { file: File_ | undefined; without: string[]; onDone: (text: string) => void; onFail: (e: Error) => void }) {
  if (!file && without.length === 0) return null;
  return (
    <div class="lead">
      {file && may("Tasks_ApplyTasks") && (
        <button
          type="button"
          class="primary"
          onClick={() =>
            post<{ created: number; changed: number; unchanged: number }>("/v1/tasks:apply", { tasks: file.tasks }).then(
              (r) => onDone(`${count(r.created)} declared, ${count(r.changed)} changed, ${count(r.unchanged)} as they were.`),
              onFail,
            )
          }
        >
          Declare these {plural(file.tasks.length, "task")}
        </button>
      )}
      {may("Workers_DrainWorker") &&
        without.map((n) => (
          <a key={n} class="button" href={href("workers", n, { do: "drain" })}>
            Drain {n}
          </a>
        ))}
    </div>
  );
}
