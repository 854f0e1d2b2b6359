// Jobs: commands that run once. The list, one of them beside it, and running another.
import { useState } from "preact/hooks";
import { path, post } from "../api/http";
import { link, may, workers } from "../api/live";
import { usePoll } from "../api/use";
import type { Job, JobCommand, JobParameter, ListCommands, ListJobs } from "../api/types";
import { byName, plural, span } from "../format";
import { go, href, narrow, route } from "../route";
import { now } from "../api/live";
import { Age, Dialog, Empty, Failed, Heading, Loading } from "../ui/parts";
import { Filter, Select } from "../ui/filter";
import { State } from "../ui/state";
import { Table, type Column } from "../ui/table";
import { JobSheet } from "./job";
import { without } from "./task";
import { fill, join, split } from "../argv";

const STATES = ["queued", "starting", "running", "succeeded", "failed", "stopped", "timed-out", "lost"];

// took is how long a job has run, or ran.
export function took(j: Pick<Job, "started" | "ended">): string {
  if (!j.started) return "–";
  return span((j.ended ? Date.parse(j.ended) : now.value) - Date.parse(j.started));
}

// exit is the status that it ended with, or the signal; nothing if it never ran.
export function exit(j: Pick<Job, "exit_code" | "signal">): string {
  return j.signal || (j.exit_code !== null && j.exit_code !== undefined && j.exit_code >= 0 ? String(j.exit_code) : "");
}

const columns: Column<Job>[] = [
  { name: "Command", grow: true, of: (j) => <code class="argv">{join(j.argv)}</code> },
  { name: "State", of: (j) => <State state={j.state} /> },
  { name: "Exit", num: true, at: "tablet", of: (j) => exit(j) },
  { name: "Worker", at: "tablet", of: (j) => <span class="id">{j.worker || "–"}</span> },
  { name: "Took", num: true, at: "tablet", of: (j) => took(j) },
  { name: "Asked", num: true, of: (j) => <Age time={j.created} /> },
];

export function Jobs() {
  const { id, query } = route.value;
  const q = (name: string) => query.get(name) ?? "";
  const { data, error } = usePoll<ListJobs>(path(["jobs"], { text: q("q"), state: q("state"), worker: q("worker"), page_size: 100, page_token: q("page") }));
  const rows = data?.jobs ?? [];
  const filtered = q("q") || q("state") || q("worker");
  const change = (to: Record<string, string>) => narrow({ ...to, page: "" });
  return (
    <div class={id ? "split open" : "split"}>
      <div class="list-side">
        <Heading title="Jobs" note="Commands that run once, on a worker that fits.">
          <a class="button" href={href("schedules")}>
            Schedules
          </a>
          {may("Jobs_RunJob") && (
            <button type="button" class="primary" onClick={() => narrow({ run: "1" })}>
              Run a job
            </button>
          )}
        </Heading>
        <div class="filters">
          <Filter label="Search" value={q("q")} onChange={(q) => change({ q })} search />
          <Select label="State" value={q("state")} of={STATES} onChange={(state) => change({ state })} />
          <Filter label="Worker" value={q("worker")} onChange={(worker) => change({ worker })} />
        </div>
        {error && link.value === "live" && <Failed what="The list cannot be shown." error={error} />}
        {!data && !error && <Loading />}
        {data && rows.length === 0 && !filtered && (
          <Empty title="No jobs yet" command="rota job run --wait -- hostname">
            A job is a command that a worker runs once; its output is kept for a day.
          </Empty>
        )}
        {data && rows.length === 0 && filtered && (
          <div class="empty">
            <h2>No job is like that</h2>
          </div>
        )}
        {rows.length > 0 && <Table label="Jobs" rows={rows} columns={columns} name={(j) => j.id} link={(j) => href("jobs", j.id, query)} chosen={id} />}
        {data?.next_page_token && (
          <nav class="pager" aria-label="Pages">
            <a class="button" href={href("jobs", "", { q: q("q"), state: q("state"), worker: q("worker"), page: data.next_page_token })}>
              Next 100
            </a>
          </nav>
        )}
      </div>
      {id && <JobSheet id={id} key={id} />}
      {query.has("run") && may("Jobs_RunJob") && <Run onClose={() => narrow({ run: "" })} />}
    </div>
  );
}

// Run asks what to run: one of the commands that workers list, or another.
function Run({ onClose }: { onClose: () => void }) {
  const [failed, setFailed] = useState<Error>();
  const [command, setCommand] = useState("");
  const [chosen, setChosen] = useState<string>(); // as its words in one line; empty: another command
  const [values, setValues] = useState<string[]>([]);
  const { data } = usePoll<ListCommands>("/v1/jobs:commands", 10_000);
  const [asked, setAsked] = useState(false);
  const listed = data?.commands ?? [];
  const first = data && data.any_workers === 0 && !command ? listed[0] : undefined; // nobody takes another one
  const template = chosen === undefined ? first : listed.find((c) => join(c.argv) === chosen);
  const submit = (e: SubmitEvent) => {
    e.preventDefault();
    const form = new FormData(e.currentTarget as HTMLFormElement);
    const field = (name: string) => String(form.get(name) ?? "").trim();
    let argv: string[];
    try {
      argv = template ? fill(template, values) : split(command);
    } catch (err) {
      setFailed(err as Error);
      return;
    }
    setAsked(true);
    const job = {
      argv,
      worker: field("worker"),
      dir: field("dir"),
      require: field("require").split(/[\s,]+/).filter(Boolean),
      timeout_ms: Math.round(Number(field("timeout")) * 1000),
      retries: Number(field("retries")),
      rerun: form.has("rerun"),
      stdin: String(form.get("stdin") ?? ""),
    };
    post<Job>("/v1/jobs", { job })
      .then((j) => go(href("jobs", j.id, without(route.value.query, "run", "page"))), setFailed)
      .finally(() => setAsked(false));
  };
  return (
    <Dialog title="Run a job" onClose={onClose}>
      <form class="form" onSubmit={submit}>
        {listed.length > 0 && (
          <label>
            Command
            <select name="template" value={template ? join(template.argv) : ""} onChange={(e) => (setChosen(e.currentTarget.value), setValues([]))}>
              {listed.map((c) => (
                <option key={join(c.argv)} value={join(c.argv)}>
                  {join(c.argv)} · {plural(c.workers, "worker")}
                </option>
              ))}
              <option value="">another command{data?.any_workers ? ` · ${plural(data.any_workers, "worker")}` : ", which a worker has to list"}</option>
            </select>
          </label>
        )}
        {template ? (
          <Parameters key={join(template.argv)} of={template} values={values} onChange={setValues} />
        ) : (
          <label>
            {listed.length > 0 ? "Words" : "Command"}
            <input name="command" class="id" required autocomplete="off" spellcheck={false} placeholder="seq 5" value={command} onInput={(e) => setCommand(e.currentTarget.value)} />
            <span class="hint">
              No shell sees it; quotes keep words together.{data?.all_workers === 0 && " No worker takes jobs now: it waits for one with --job."}
            </span>
          </label>
        )}
        <div class="pair">
          <label>
            Worker
            <select name="worker">
              <option value="">whichever fits</option>
              {[...workers.value.keys()].sort(byName).map((n) => (
                <option key={n} value={n}>
                  {n}
                </option>
              ))}
            </select>
          </label>
          <label>
            Labels that it needs
            <input name="require" autocomplete="off" spellcheck={false} placeholder="zone=a" />
          </label>
        </div>
        <div class="pair">
          <label>
            Time limit, seconds
            <input name="timeout" type="number" min="0" step="any" placeholder="none" />
          </label>
          <label>
            Tries more if it fails
            <input name="retries" type="number" min="0" placeholder="0" />
          </label>
        </div>
        <label>
          Folder
          <input name="dir" class="id" autocomplete="off" spellcheck={false} />
        </label>
        <label>
          Standard input
          <textarea name="stdin" class="id" rows={3} spellcheck={false} />
        </label>
        <label class="check">
          <input type="checkbox" name="rerun" /> Run it again elsewhere if its worker is lost
        </label>
        {failed && <Failed what="It was not run." error={failed} />}
        <div class="dialog-actions">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={asked}>
            Run it
          </button>
        </div>
      </form>
    </Dialog>
  );
}

// Parameters asks for what a template leaves open.
function Parameters({ of, values, onChange }: { of: JobCommand; values: string[]; onChange: (values: string[]) => void }) {
  return (
    <>
      {of.parameters.map((p, n) => (
        <label key={p.word}>
          {p.name}
          <Value of={p} value={values[n] ?? ""} onChange={(v) => onChange(of.parameters.map((_, m) => (m === n ? v : (values[m] ?? ""))))} />
          {hints[p.many ? "many" : p.type] && <span class="hint">{hints[p.many ? "many" : p.type]}</span>}
        </label>
      ))}
    </>
  );
}

const hints: Record<string, string> = {
  many: "None or more words; quotes keep them together.",
  path: "A file or folder on the worker, below one of its --job-dirs.",
};

// What the worker takes for a type, as browsers check it.
const patterns: Record<string, string> = { word: "(?!\\.{1,2}$)[A-Za-z0-9._+@%:,][A-Za-z0-9._+@%:,\\-]*", text: "[^\\-].*", path: "[^\\-].*" };

function Value({ of: p, value, onChange }: { of: JobParameter; value: string; onChange: (value: string) => void }) {
  const changed = (e: { currentTarget: { value: string } }) => onChange(e.currentTarget.value);
  if (p.type === "one" && !p.many) {
    return (
      <select required value={value} onChange={changed}>
        <option value="" />
        {p.choices.map((c) => (
          <option key={c} value={c}>
            {c}
          </option>
        ))}
      </select>
    );
  }
  if (p.type === "int" && !p.many) {
    const limits = p.low != null && p.high != null ? { min: p.low, max: p.high, placeholder: `${p.low} to ${p.high}` } : {};
    return <input type="number" step="1" required {...limits} value={value} onInput={changed} />;
  }
  const check = p.many ? {} : { required: p.type === "word" || p.type === "path", ...(patterns[p.type] && { pattern: patterns[p.type]! }) };
  return <input class="id" autocomplete="off" spellcheck={false} {...check} value={value} onInput={changed} />;
}
