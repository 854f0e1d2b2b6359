// One program: its members, what they say, and what happened.
import { useState } from "preact/hooks";
import { path, post } from "../api/http";
import { may } from "../api/live";
import { usePoll } from "../api/use";
import type { Program, ProgramEvent } from "../api/types";
import { clock, count, exact, plural } from "../format";
import { href, narrow, route } from "../route";
import { Age, Facts, Failed, Loading, Section, Sheet } from "../ui/parts";
import { Mark, State, type Tone } from "../ui/state";
import { without } from "./task";

// What a failed task means for the others.
const POLICIES: Record<string, string> = {
  "stop-all": "the program ends (stop-all)",
  "restart-task": "it starts again (restart-task)",
  "restart-all": "all start again (restart-all)",
};

const TONES: Record<string, Tone> = {
  "task running": "ok", "task finished": "ok", "re-registered": "ok",
  waiting: "warn", disconnected: "warn", stalled: "warn", "resources withdrawn": "warn",
  "task failed": "bad", "task lost": "bad", "worker lost": "bad", error: "bad",
};

export function ProgramSheet({ name }: { name: string }) {
  const { query } = route.value;
  const { data: p, error, again } = usePoll<Program>(path(["programs", name]), 1000);
  const [failed, setFailed] = useState<Error>();
  return (
    <Sheet title={name} kind="Program" back={href("programs", "", without(query, "wide"))} wide={query.has("wide")} onWide={() => narrow({ wide: query.has("wide") ? "" : "1" })}>
      {error && !p && <Failed what="This program cannot be shown." error={error} />}
      {!p && !error && <Loading />}
      {p && (
        <>
          <div class="lead">
            <State state={p.phase} />
            <span class="quiet">
              since <Age time={p.since} ago />, <span class="strong num">{count(p.messages_per_second)}</span> {p.messages_per_second === 1 ? "message" : "messages"} a second
            </span>
            {may("Programs_StopProgram") && p.phase !== "stopping" && (
              <span class="actions">
                <button type="button" onClick={() => post(`${path(["programs", name])}:stop`, { reason: "console" }).then(again, setFailed)}>
                  Stop
                </button>
              </span>
            )}
          </div>
          {failed && <Failed what="It was not stopped." error={failed} onClose={() => setFailed(undefined)} />}
          {p.missing && (
            <p class="notice">
              <Mark of="warn" /> {p.missing}
            </p>
          )}
          <Members p={p} />
          <Section title="Timeline" aside={<a href={href("events", "", { program: name })}>All in events</a>}>
            <ol class="feed">
              {runs(p.events).map((of) => (
                <Happened key={`${of[0]?.time} ${of[0]?.kind} ${of[0]?.task}`} of={of} program={name} />
              ))}
            </ol>
          </Section>
          <Section title="About">
            <Facts
              of={[
                ["If a task fails", POLICIES[p.policy] ?? p.policy],
                ["Run", <span class="id">{p.run}</span>],
                ["Host", <span class="id">{p.host}</span>],
                ["Process", p.pid && <span class="id">{p.pid}</span>],
              ]}
            />
          </Section>
        </>
      )}
    </Sheet>
  );
}

function Members({ p }: { p: Program }) {
  const failures = p.tasks.some((t) => t.error);
  return (
    <Section title="Tasks" aside={<span class="quiet">{`${count(p.tasks.filter((t) => t.state === "running").length)} of ${count(p.tasks.length)} running`}</span>}>
      <table class="plain-table">
        <thead>
          <tr>
            <th scope="col">Task</th>
            <th scope="col">State</th>
            <th scope="col">Worker</th>
            {failures && <th scope="col">Last failure</th>}
          </tr>
        </thead>
        <tbody>
          {p.tasks.map((t) => (
            <tr key={t.name}>
              <td>
                <Member program={p.name} task={t.name} />
              </td>
              <td>
                <State state={t.state} />
              </td>
              <td>{t.worker ? <On worker={t.worker} /> : "–"}</td>
              {failures && <td class="reason">{t.error}</td>}
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

function Member({ program, task }: { program: string; task: string }) {
  return (
    <a class="id" href={href("tasks", `${program}/${task}`)}>
      {task}
    </a>
  );
}

function On({ worker }: { worker: string }) {
  return (
    <a class="id" href={href("workers", worker)}>
      {worker}
    </a>
  );
}

// runs puts together what happened to several tasks one after the other, newest first. What
// has a text of its own is told of by itself.
function runs(events: readonly ProgramEvent[]): ProgramEvent[][] {
  const out: ProgramEvent[][] = [];
  for (const e of [...events].reverse()) {
    const last = out.at(-1)?.[0];
    if (last && last.task && e.task && last.kind === e.kind && !last.text && !e.text) out.at(-1)?.push(e);
    else out.push([e]);
  }
  return out;
}

function Happened({ of, program }: { of: readonly ProgramEvent[]; program: string }) {
  const e = of[0]!;
  return (
    <li>
      <time class="quiet" dateTime={e.time ?? ""} title={exact(e.time)}>
        {e.time ? clock(e.time) : ""}
      </time>
      <Mark of={TONES[e.kind] ?? "idle"} />
      <div>
        <span class="strong">{e.kind}</span>{" "}
        {of.length > 1 ? (
          <>
            {plural(of.length, "task")}
            <details>
              <summary>which</summary>
              <ul class="reasons">
                {of.map((one) => (
                  <li key={one.task}>
                    <Where e={one} program={program} />
                  </li>
                ))}
              </ul>
            </details>
          </>
        ) : (
          <>
            <Where e={e} program={program} /> {e.text}
          </>
        )}
        {e.stack && (
          <details>
            <summary>stack</summary>
            <pre class="payload">{e.stack}</pre>
          </details>
        )}
      </div>
    </li>
  );
}

function Where({ e, program }: { e: ProgramEvent; program: string }) {
  return (
    <>
      {e.task && <Member program={program} task={e.task} />}
      {e.worker && (
        <>
          {e.task && " on "}
          <On worker={e.worker} />
        </>
      )}
    </>
  );
}
