// Programs: functions that run together. The list, and one of them beside it.
import { useState } from "preact/hooks";
import { path, post } from "../api/http";
import { link, may } from "../api/live";
import { usePoll } from "../api/use";
import type { ListPrograms, Program } from "../api/types";
import { clock, count } from "../format";
import { href, narrow, route } from "../route";
import { Age, Empty, Facts, Failed, Heading, Loading, Section, Sheet } from "../ui/parts";
import { Mark, State, tone } from "../ui/state";
import { Table, type Column } from "../ui/table";
import { without } from "./task";

const columns: Column<Program>[] = [
  { name: "Program", grow: true, of: (p) => <span class="id">{p.name}</span> },
  { name: "Phase", of: (p) => <State state={p.phase} /> },
  { name: "Tasks", num: true, of: (p) => `${count(p.tasks.filter((t) => t.state === "running").length)} of ${count(p.tasks.length)}` },
  { name: "Messages/s", num: true, at: "tablet", of: (p) => count(p.messages_per_second) },
  { name: "Host", at: "tablet", of: (p) => <span class="id">{p.host}</span> },
  { name: "Since", num: true, at: "tablet", of: (p) => <Age time={p.since} /> },
];

export function Programs() {
  const { id, query } = route.value;
  const { data, error } = usePoll<ListPrograms>("/v1/programs");
  const rows = data?.programs ?? [];
  return (
    <div class={id ? "split open" : "split"}>
      <div class="list-side">
        <Heading title="Programs" note="Functions that run together, all or none, and talk over channels." />
        {error && link.value === "live" && <Failed what="The list cannot be shown." error={error} />}
        {!data && !error && <Loading />}
        {data && rows.length === 0 && (
          <Empty title="No program runs" command="go run ./examples/elevator -cluster HOST:50000">
            A program is a Go function that starts others on the workers. While it runs, it is here.
          </Empty>
        )}
        {rows.length > 0 && <Table label="Programs" rows={rows} columns={columns} name={(p) => p.name} link={(p) => href("programs", p.name, query)} chosen={id} />}
      </div>
      {id && <ProgramSheet name={id} key={id} />}
    </div>
  );
}

function ProgramSheet({ name }: { name: string }) {
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
              since <Age time={p.since} ago />
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
          <Section title="Tasks">
            <table class="plain-table">
              <thead>
                <tr>
                  <th scope="col">Task</th>
                  <th scope="col">State</th>
                  <th scope="col">Worker</th>
                  <th scope="col">Last failure</th>
                </tr>
              </thead>
              <tbody>
                {p.tasks.map((t) => (
                  <tr key={t.name}>
                    <td class="id">{t.name}</td>
                    <td>
                      <State state={t.state} />
                    </td>
                    <td class="id">{t.worker ? <a href={href("workers", t.worker)}>{t.worker}</a> : "–"}</td>
                    <td class="reason">{t.error}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Section>
          <Section title="What happened">
            <ol class="feed">
              {[...p.events].reverse().map((e, i) => (
                <li key={i}>
                  <time class="quiet">{e.time ? clock(e.time) : ""}</time>
                  <Mark of={tone(e.kind)} />
                  <span>
                    <span class="strong">{e.kind}</span> {e.task && <span class="id">{e.task}</span>} {e.worker && <span class="quiet">on {e.worker}</span>} {e.text}
                    {e.stack && (
                      <details>
                        <summary>stack</summary>
                        <pre class="payload">{e.stack}</pre>
                      </details>
                    )}
                  </span>
                </li>
              ))}
            </ol>
          </Section>
          <Section title="About">
            <Facts
              of={[
                ["Run", <span class="id">{p.run}</span>],
                ["If a task fails", p.policy],
                ["Messages a second", count(p.messages_per_second)],
                ["Host", <span class="id">{p.host}</span>],
                ["Process", p.pid],
              ]}
            />
          </Section>
        </>
      )}
    </Sheet>
  );
}
