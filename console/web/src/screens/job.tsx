// One job: how it goes, what it writes, and its attempts.
import { useState } from "preact/hooks";
import { call, path, post } from "../api/http";
import { may } from "../api/live";
import { usePoll } from "../api/use";
import type { JobAttempt, JobDetail } from "../api/types";
import { count, number, span } from "../format";
import { go, href, narrow, route } from "../route";
import { join } from "../argv";
import { Age, Facts, Failed, Loading, Section, Sheet } from "../ui/parts";
import { State } from "../ui/state";
import { Timeline } from "../ui/timeline";
import { Output } from "../ui/output";
import { WhyTable } from "../ui/why";
import { exit, took } from "./jobs";
import { ALL, FEW, SLOWLY, without } from "./task";

const OVER = new Set(["succeeded", "failed", "stopped", "timed-out", "lost"]);

export function JobSheet({ id }: { id: string }) {
  const { query } = route.value;
  const [most, setMost] = useState(FEW);
  const { data, error, again } = usePoll<JobDetail>(path(["jobs", id], { workers: most }), most > FEW ? SLOWLY : 1000, id);
  const [failed, setFailed] = useState<Error>();
  const j = data?.job;
  const act = (verb: string) => post(`${path(["jobs", id])}:${verb}`).then(() => (setFailed(undefined), again()), setFailed);
  const back = href("jobs", "", without(query, "wide"));
  return (
    <Sheet title={id} kind="Job" back={back} wide={query.has("wide")} onWide={() => narrow({ wide: query.has("wide") ? "" : "1" })}>
      {error && !data && <Failed what="This job cannot be shown." error={error} />}
      {!data && !error && <Loading />}
      {j && (
        <>
          <pre class="argv-line">{join(j.argv)}</pre>
          <div class="lead">
            <State state={j.state} />
            <span class="quiet">
              {j.worker ? (
                <>
                  on <a href={href("workers", j.worker)}>{j.worker}</a>
                  {j.started ? `, took ${took(j)}` : OVER.has(j.state) && ", never started"}
                </>
              ) : (
                j.state !== "queued" && j.reason
              )}
              {exit(j) && (j.signal ? `, ended by ${j.signal}` : `, exit status ${exit(j)}`)}
            </span>
            <span class="actions">
                {!OVER.has(j.state) && may("Jobs_StopJob") && (
                  <button type="button" disabled={j.stop_asked} onClick={() => act("stop")}>
                    {j.stop_asked ? "Stopping" : "Stop"}
                  </button>
                )}
                {OVER.has(j.state) && may("Jobs_RetryJob") && (
                  <button type="button" onClick={() => act("retry")}>
                    Run again
                  </button>
                )}
                {OVER.has(j.state) && may("Jobs_DeleteJob") && (
                  <button type="button" onClick={() => call("DELETE", path(["jobs", id])).then(() => go(back), setFailed)}>
                    Forget
                  </button>
                )}
            </span>
          </div>
          {failed && <Failed what="Nothing was changed." error={failed} onClose={() => setFailed(undefined)} />}
          {j.error && <pre class="error-text">{j.error}</pre>}
          {j.generation > 0 && (j.started || !OVER.has(j.state)) && (
            <Section title="Output">
              <Output key={j.generation} address={path(["jobs", id, "output"], { generation: j.generation, follow: true })} empty={OVER.has(j.state) ? "It wrote nothing." : "Nothing yet."} />
            </Section>
          )}
          {!OVER.has(j.state) && (
            <Section title={j.worker && j.state !== "queued" ? "Why it is there" : "Why it waits"}>
              {j.state === "queued" && j.reason && <p class="reason">{j.reason}</p>}
              {data.workers.length > 0 ? (
                <WhyTable w={data} onMore={most < ALL ? () => setMost(ALL) : undefined} />
              ) : (
                <p class="quiet">
                  No worker takes jobs. <code>rota worker --job COMMAND</code> starts one that runs COMMAND.
                </p>
              )}
            </Section>
          )}
          {data.attempts.length > 1 && <Attempts of={data.attempts} />}
          <Timeline of={{ job: id }} mine={id} over={OVER.has(j.state)} />
          <Definition data={data} />
        </>
      )}
    </Sheet>
  );
}

function Attempts({ of }: { of: JobAttempt[] }) {
  return (
    <Section title="Attempts">
      <table class="plain-table">
        <thead>
          <tr>
            <th scope="col">No.</th>
            <th scope="col">State</th>
            <th scope="col">Worker</th>
            <th scope="col" class="num">
              Exit
            </th>
            <th scope="col" class="num">
              Placed
            </th>
          </tr>
        </thead>
        <tbody>
          {of.map((a) => (
            <tr key={a.number}>
              <td>{a.number}</td>
              <td>
                <State state={a.state} />
              </td>
              <td class="id">{a.worker}</td>
              <td class="num">{exit(a)}</td>
              <td class="num">
                <Age time={a.placed} ago />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

function Definition({ data }: { data: JobDetail }) {
  const d = data.definition;
  const j = data.job;
  if (!d || !j) return null;
  return (
    <Section title="As asked for">
      <Facts
        of={[
          ["Schedule", j.schedule && <a href={href("schedules", j.schedule)}>{j.schedule}</a>],
          ["Asked", <Age time={j.created} ago />],
          ["Started", j.started && <Age time={j.started} ago />],
          ["Ended", j.ended && <Age time={j.ended} ago />],
          ["Attempts", j.attempts > 1 && count(j.attempts)],
          ["Waits until", j.not_before && !j.ended && <Age time={j.not_before} />],
          ["Folder", d.dir && <span class="id">{d.dir}</span>],
          ["Only on", d.worker],
          ["Requires", d.require.join(", ")],
          [
            "Resources",
            Object.entries(d.resources)
              .map(([k, v]) => `${k} ${number(v)}`)
              .join(", "),
          ],
          ["Time limit", d.timeout_ms > 0 && span(d.timeout_ms)],
          ["Retries", d.retries > 0 && count(d.retries)],
          ["If its worker is lost", d.rerun && "runs again elsewhere"],
          ["Environment", Object.keys(d.env).length > 0 && <span class="chips">{Object.keys(d.env).map((k) => <code key={k}>{k}</code>)}</span>],
        ]}
      />
    </Section>
  );
}
