// Schedules: jobs that run at times of the calendar. The list, and one of them beside it.
import { useState } from "preact/hooks";
import { call, path, post } from "../api/http";
import { link, may, now } from "../api/live";
import { usePoll } from "../api/use";
import type { Job, JobSchedule, ListJobSchedules } from "../api/types";
import { join } from "../argv";
import { count, exact, span, until } from "../format";
import { go, href, narrow, route } from "../route";
import { Age, Dialog, Empty, Facts, Failed, Heading, Loading, Section, Sheet } from "../ui/parts";
import { Mark, State } from "../ui/state";
import { Table, type Column } from "../ui/table";
import { without } from "./task";

const nameOf = (s: JobSchedule): string => s.definition?.name ?? "";

// Next is when a schedule runs, or why it does not.
function Next({ s }: { s: JobSchedule }) {
  if (s.error) return <span class="bad-text"><Mark of="bad" /> cannot run</span>;
  if (s.definition?.paused) return <State state="paused" />;
  if (!s.next) return <span class="quiet">never</span>;
  return <time dateTime={s.next} title={exact(s.next)}>{until(s.next, now.value)}</time>;
}

const columns: Column<JobSchedule>[] = [
  { name: "Schedule", of: (s) => <span class="id">{nameOf(s)}</span> },
  { name: "Next", of: (s) => <Next s={s} /> },
  { name: "Last run", of: (s) => (s.last_job_state ? <State state={s.last_job_state} /> : "–") },
  { name: "Times", at: "tablet", of: (s) => <code>{s.definition?.cron}</code> },
  { name: "Time zone", at: "desktop", of: (s) => s.definition?.time_zone },
  { name: "Command", grow: true, at: "desktop", of: (s) => <code class="argv">{join(s.definition?.job?.argv ?? [])}</code> },
];

export function Schedules() {
  const { id, query } = route.value;
  const { data, error } = usePoll<ListJobSchedules>("/v1/jobschedules");
  const rows = data?.schedules ?? [];
  return (
    <div class={id ? "split open" : "split"}>
      <div class="list-side">
        <Heading title="Schedules" note="Jobs that run at times of the calendar.">
          <a class="button" href={href("jobs")}>
            Jobs
          </a>
        </Heading>
        {error && link.value === "live" && <Failed what="The list cannot be shown." error={error} />}
        {!data && !error && <Loading />}
        {data && rows.length === 0 && (
          <Empty title="No schedules yet" command="rota job schedule apply tick --cron '*/5 * * * *' -- date">
            A schedule runs a job again and again, as cron does: this one runs date every five minutes.
          </Empty>
        )}
        {rows.length > 0 && <Table label="Schedules" rows={rows} columns={columns} name={nameOf} link={(s) => href("schedules", nameOf(s), query)} chosen={id} />}
      </div>
      {id && <ScheduleSheet name={id} key={id} />}
    </div>
  );
}

function ScheduleSheet({ name }: { name: string }) {
  const { query } = route.value;
  const address = path(["jobschedules", name]);
  const { data: s, error, again } = usePoll<JobSchedule>(address, 1000);
  const [failed, setFailed] = useState<Error>();
  const [asked, setAsked] = useState(false);
  const back = href("schedules", "", without(query, "wide", "do"));
  const act = <T,>(done: Promise<T>, then: (answer: T) => void) => {
    setAsked(true);
    done.then((answer) => (setFailed(undefined), then(answer)), setFailed).finally(() => setAsked(false));
  };
  const d = s?.definition;
  const verb = d?.paused ? "resume" : "pause";
  return (
    <Sheet title={name} kind="Schedule" back={back} wide={query.has("wide")} onWide={() => narrow({ wide: query.has("wide") ? "" : "1" })}>
      {error && !s && <Failed what="This schedule cannot be shown." error={error} />}
      {!s && !error && <Loading />}
      {s && d && (
        <>
          <pre class="argv-line">{join(d.job?.argv ?? [])}</pre>
          <div class="lead">
            <Next s={s} />
            <span class="actions">
              {may("JobSchedules_RunJobSchedule") && (
                <button type="button" disabled={asked} onClick={() => act(post<Job>(`${address}:run`, {}), (j) => go(href("jobs", j.id)))}>
                  Run now
                </button>
              )}
              {may("JobSchedules_PauseJobSchedule") && (
                <button type="button" disabled={asked} onClick={() => act(post(`${address}:${verb}`), again)}>
                  {d.paused ? "Resume" : "Pause"}
                </button>
              )}
              {may("JobSchedules_DeleteJobSchedule") && (
                <button type="button" disabled={asked} onClick={() => narrow({ do: "delete" })}>
                  Delete
                </button>
              )}
            </span>
          </div>
          {failed && <Failed what="Nothing was changed." error={failed} onClose={() => setFailed(undefined)} />}
          {s.error && <pre class="error-text">{s.error}</pre>}
          <Section title="Times">
            <Facts
              of={[
                ["Cron", <code>{d.cron}</code>],
                ["Time zone", d.time_zone],
                ["Next", s.next && exact(s.next)],
                ["Last due", s.last_due && <Age time={s.last_due} ago />],
                [
                  "Last run",
                  s.last_job && (s.last_job_state ? <a href={href("jobs", s.last_job)}><State state={s.last_job_state} /></a> : <span class="quiet">no longer kept</span>),
                ],
                ["Fired", count(s.fired)],
                ["Skipped", s.skipped > 0 && `${count(s.skipped)}, an earlier job ran`],
                ["Missed", s.missed > 0 && count(s.missed)],
              ]}
            />
          </Section>
          <Section title="As asked for">
            <Facts
              of={[
                ["By", s.declared_by],
                ["Overlap", d.overlap],
                ["Catch up", span(d.catch_up_ms)],
                ["Worker", d.job?.worker],
                ["Labels", d.job?.require.join(", ")],
                ["Time limit", d.job && d.job.timeout_ms > 0 && span(d.job.timeout_ms)],
                ["Retries", d.job && d.job.retries > 0 && count(d.job.retries)],
              ]}
            />
          </Section>
          {query.get("do") === "delete" && may("JobSchedules_DeleteJobSchedule") && (
            <Dialog title={`Delete ${name}`} onClose={() => narrow({ do: "" })}>
              <p>It runs no more. Its jobs stay.</p>
              {failed && <Failed what="It was not deleted." error={failed} />}
              <div class="dialog-actions">
                <button type="button" onClick={() => narrow({ do: "" })}>
                  Leave it
                </button>
                <button type="button" class="primary" disabled={asked} onClick={() => act(call("DELETE", address), () => go(back))}>
                  Delete {name}
                </button>
              </div>
            </Dialog>
          )}
        </>
      )}
    </Sheet>
  );
}
