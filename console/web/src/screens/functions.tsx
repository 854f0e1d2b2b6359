// Functions: how their calls through this scheduler's gateway go. The list, and one of
// them beside it: which worker, why not another, and what became of calls that failed.
import { useEffect } from "preact/hooks";
import { ApiError, path } from "../api/http";
import { link, workers } from "../api/live";
import { note, samplesOf } from "../api/functions";
import { usePoll } from "../api/use";
import type { FunctionFailure, FunctionWorker, Function_, ListFunctions } from "../api/types";
import { byName, clock, count, failing, number, plural, share, span } from "../format";
import { href, narrow, route } from "../route";
import { Empty, Facts, Failed, Heading, Loading, Section, Sheet } from "../ui/parts";
import { Filter } from "../ui/filter";
import { Lines } from "../ui/lines";
import { Mark, State } from "../ui/state";
import { Table, type Column } from "../ui/table";
import { without } from "./task";

const STEP = 2000; // ms

// took is a time as it is measured, in milliseconds; nothing was measured at 0.
const took = (ms: number): string => (ms ? (ms < 10 ? `${number(ms)} ms` : span(ms)) : "–");

// said is how a call ended, in words: the gateway calls it ok when the function itself said no.
const said = (cause: string): string => (cause === "ok" ? "from the function itself" : cause.replaceAll("-", " "));

// recently is how calls went since the page looked first; before that there is nothing to
// compare with.
function recently(name: string): { rate: string; errors: string; ill: boolean } {
  const list = samplesOf(name).slice(-5);
  if (list.length === 0) return { rate: "–", errors: "–", ill: false };
  const rate = list.reduce((sum, s) => sum + s.rate, 0) / list.length;
  const errors = rate ? list.reduce((sum, s) => sum + s.rate * s.errors, 0) / list.length / rate : 0;
  return { rate: number(rate), errors: failing({ rate, errors }), ill: errors > 0.01 };
}

const ORDERS: Record<string, (a: Function_, b: Function_) => number> = {
  name: (a, b) => byName(a.name, b.name),
  calls: (a, b) => a.calls - b.calls,
  errors: (a, b) => a.errors - b.errors,
  p50: (a, b) => a.p50_ms - b.p50_ms,
  p99: (a, b) => a.p99_ms - b.p99_ms,
  waiting: (a, b) => a.waiting - b.waiting,
};

const columns: Column<Function_>[] = [
  { name: "Function", sort: "name", grow: true, of: (f) => <span class="id">{f.name}</span> },
  { name: "Calls/s", num: true, of: (f) => recently(f.name).rate },
  {
    name: "Errors now",
    num: true,
    of: (f) => {
      const r = recently(f.name);
      return r.ill ? (
        <span class="bad-text">
          <Mark of="bad" /> {r.errors}
        </span>
      ) : (
        r.errors
      );
    },
  },
  { name: "p50", sort: "p50", num: true, at: "tablet", of: (f) => took(f.p50_ms) },
  { name: "p99", sort: "p99", num: true, at: "tablet", of: (f) => took(f.p99_ms) },
  { name: "Waiting", sort: "waiting", num: true, at: "tablet", of: (f) => count(f.waiting) },
  { name: "Calls", sort: "calls", num: true, at: "desktop", of: (f) => count(f.calls) },
  { name: "Errors", sort: "errors", num: true, at: "desktop", of: (f) => count(f.errors) },
];

export function Functions() {
  const { id, query } = route.value;
  const q = (name: string) => query.get(name) ?? "";
  const { data, error } = usePoll<ListFunctions>("/v1/functions", STEP);
  useEffect(() => note(data?.functions ?? []), [data]);
  const none = error instanceof ApiError && error.code === "failed_precondition";
  const order = q("sort") || "name";
  const compare = ORDERS[order.replace(/^-/, "")] ?? ORDERS.name!;
  const words = q("q").toLowerCase();
  const all = data?.functions ?? [];
  const rows = all.filter((f) => f.name.toLowerCase().includes(words)).sort((a, b) => (order.startsWith("-") ? -1 : 1) * compare(a, b) || byName(a.name, b.name));
  return (
    <div class={id ? "split open" : "split"}>
      <div class="list-side">
        <Heading title="Functions" note={data ? `${count(all.length)} offered, as this scheduler's gateway sees them` : undefined} />
        {all.length > 0 && (
          <div class="filters">
            <Filter label="Name" value={q("q")} onChange={(v) => narrow({ q: v })} search />
          </div>
        )}
        {none && (
          <Empty title="This scheduler has no gateway" command="rota scheduler --gateway 127.0.0.1:9080">
            The gateway takes calls of functions and gives each to a worker. Start it, and how they go is here.
          </Empty>
        )}
        {error && !none && link.value === "live" && <Failed what="The list cannot be shown." error={error} />}
        {!data && !error && <Loading />}
        {data && all.length === 0 && (
          <Empty title="No functions yet" command="rota worker --function hello=URL">
            A function is answered by workers that offer it. Offer one, and call it at /run/hello of the gateway.
          </Empty>
        )}
        {all.length > 0 && rows.length === 0 && (
          <div class="empty">
            <h2>No function is called that</h2>
            <p>
              <button type="button" onClick={() => narrow({ q: "" })}>
                Show all {count(all.length)}
              </button>
            </p>
          </div>
        )}
        {rows.length > 0 && (
          <Table
            label="Functions"
            rows={rows}
            columns={columns}
            name={(f) => f.name}
            link={(f) => href("functions", f.name, query)}
            chosen={id}
            order={order}
            onOrder={(sort) => narrow({ sort })}
          />
        )}
      </div>
      {id && <FunctionSheet name={id} key={id} />}
    </div>
  );
}

function FunctionSheet({ name }: { name: string }) {
  const { query } = route.value;
  const { data: f, error } = usePoll<Function_>(path(["functions", name]), STEP);
  return (
    <Sheet title={name} kind="Function" back={href("functions", "", without(query, "wide"))} wide={query.has("wide")} onWide={() => narrow({ wide: query.has("wide") ? "" : "1" })}>
      {error && !f && <Failed what="This function cannot be shown." error={error} />}
      {!f && !error && <Loading />}
      {f && (
        <>
          <Course f={f} />
          <Section title="Which worker, and why not another">
            <Places f={f} />
          </Section>
          <Section title="Calls that did not go well" aside={<span class="quiet">the last {count(f.failures.length)}</span>}>
            {f.failures.length === 0 && <p class="quiet">None that is still kept.</p>}
            {f.failures.map((one) => (
              <Failure key={`${one.id} ${one.time}`} of={one} />
            ))}
          </Section>
          <Section title="About">
            <Facts
              of={[
                ["Calls", count(f.calls)],
                ["Errors", f.errors && `${count(f.errors)} (${share(f.errors / Math.max(1, f.calls))})`],
                ["In flight", count(f.in_flight)],
                ["Tried again", count(f.retries)],
                ["Refused", count(f.refused)],
                ["Picked by", f.balancer],
                ["Paths", f.paths.length > 0 && <span class="chips">{f.paths.map((p) => <code key={p}>{p}</code>)}</span>],
              ]}
            />
          </Section>
        </>
      )}
    </Sheet>
  );
}

// Course is how calls have gone while the page was open.
function Course({ f }: { f: Function_ }) {
  const list = samplesOf(f.name);
  const last = list.at(-1);
  const at = list.map((s) => s.at);
  return (
    <div class="course">
      <Lines title="Rate" at={at} lines={[{ word: "calls/s", now: last ? number(last.rate) : "–", of: list.map((s) => s.rate) }]} />
      <Lines title="Errors" at={at} lines={[{ word: "of calls", now: failing(last), of: list.map((s) => s.errors), bad: (last?.errors ?? 0) > 0.01 }]} />
      <Lines
        title="Time"
        at={at}
        lines={[
          { word: "p99", now: took(f.p99_ms), of: list.map((s) => s.p99) },
          { word: "p50", now: took(f.p50_ms), of: list.map((s) => s.p50) },
        ]}
      />
      <Lines title="Queue" at={at} lines={[{ word: "waiting", now: count(f.waiting), of: list.map((s) => s.waiting) }]} />
    </div>
  );
}

function Places({ f }: { f: Function_ }) {
  const rank = (w: FunctionWorker) => (w.name === f.next ? 0 : w.may ? 1 : 2);
  const rows = [...f.workers].sort((a, b) => rank(a) - rank(b) || byName(a.name, b.name));
  if (rows.length === 0) return <p class="quiet">No worker is there.</p>;
  return (
    <table class="plain-table">
      <thead>
        <tr>
          <th scope="col">Worker</th>
          <th scope="col">May it?</th>
          <th scope="col" class="num">
            In flight
          </th>
          <th scope="col" class="num">
            Mean
          </th>
        </tr>
      </thead>
      <tbody>
        {rows.map((w) => (
          <tr key={w.name}>
            <td>
              {workers.value.has(w.name) ? (
                <a class="id" href={href("workers", w.name)}>
                  {w.name}
                </a>
              ) : (
                <span class="id">{w.name}</span>
              )}
            </td>
            <td class="reason">
              {w.may ? (
                <>
                  <Mark of="ok" /> {w.name === f.next ? "gets the next call" : "may get calls"}
                </>
              ) : (
                <>
                  <Mark of={w.state === "ready" ? "could" : "bad"} /> {w.why}
                </>
              )}
            </td>
            <td class="num">{count(w.in_flight)}</td>
            <td class="num">{took(w.mean_ms)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

// Failure is a call that did not go well, attempt by attempt.
function Failure({ of }: { of: FunctionFailure }) {
  return (
    <details class="failure">
      <summary>
        <time class="quiet">{of.time ? clock(of.time) : ""}</time> <State state={of.blame === "client" ? "refused" : "failed"} /> <strong class="num">{of.status || "no answer"}</strong> {said(of.cause)}{" "}
        <span class="quiet">
          {of.blame && `by the ${of.blame}, `}
          {plural(of.attempts.length, "attempt")}, {took(of.took_ms)}
        </span>
      </summary>
      {of.error && <p class="reason">{of.error}</p>}
      {of.attempts.length > 0 && (
        <ol class="attempts">
          {of.attempts.map((a, i) => (
            <li key={i}>
              <span class="quiet num">+{a.after_ms ? took(a.after_ms) : "0 ms"}</span>
              <span>
                <span class="id">{a.worker}</span> {a.status ? <strong class="num">{a.status}</strong> : "no answer"} {said(a.cause)}, <span class="quiet">{a.verdict}</span>
                {a.error && <span class="reason"> {a.error}</span>}
              </span>
              <span class="quiet num">{took(a.took_ms)}</span>
            </li>
          ))}
        </ol>
      )}
      <p class="quiet">
        Request <span class="id">{of.id}</span>
      </p>
    </details>
  );
}
