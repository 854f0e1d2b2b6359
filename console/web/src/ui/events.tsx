// Events as lines of text, each with links to what it is about.
import type { ComponentChildren } from "preact";
import { Fragment } from "preact";
import type { Event_ } from "../api/types";
import { clock, count, exact, instance, plural, shortJob } from "../format";
import { href } from "../route";
import type { Folded } from "./fold";
import { Mark, type Tone } from "./state";

const BAD = new Set(["lost", "fenced", "failed", "stuck", "held", "timed-out"]);
const WARN = new Set(["leaving", "draining", "cordoned", "moved", "restarted", "suspected", "stopping", "resigned", "retried"]);
const GOOD = new Set(["joined", "started", "succeeded", "elected", "running", "uncordoned", "released", "cleared", "confirmed", "taken"]);

export function toneOf(kind: string): Tone {
  const what = kind.slice(kind.indexOf(".") + 1);
  return BAD.has(what) ? "bad" : WARN.has(what) ? "warn" : GOOD.has(what) ? "ok" : "idle";
}

// about is the subject of an event, as links, but for what the page is about itself.
function about(e: Event_, mine: string): ComponentChildren[] {
  const s = e.subject;
  const out: ComponentChildren[] = [];
  if (!s) return out;
  const link = (to: string, text: string) => (
    <a class="id" href={to}>
      {text}
    </a>
  );
  // A task of a program has the program's name before its own.
  if (s.program && s.program !== mine && !s.task?.startsWith(`${s.program}/`)) out.push(link(href("programs", s.program), s.program));
  if (s.task && s.task !== mine) out.push(link(href("tasks", s.task), instance(s.task, s.index)));
  else if (s.task && s.index) out.push(<span class="id">#{s.index}</span>);
  if (s.pool && s.pool !== mine) out.push(link(href("pools", s.pool), s.pool));
  if (s.job && s.job !== mine) out.push(link(href("jobs", s.job), shortJob(s.job)));
  if (e.from) out.push(<>from {link(href("workers", e.from), e.from)}</>);
  if (s.worker && s.worker !== mine) {
    out.push(
      <>
        {(s.task || s.job || s.pool) && (e.from ? "to " : "on ")}
        {link(href("workers", s.worker), s.worker)}
      </>,
    );
  }
  return out;
}

// Head is what every line begins with: when it was, and how it went.
function Head({ of: e }: { of: Event_ }) {
  return (
    <>
      <time class="quiet" dateTime={e.time ?? ""} title={exact(e.time)}>
        {e.time ? clock(e.time) : ""}
      </time>
      <Mark of={toneOf(e.kind)} />
    </>
  );
}

// EventLine is an event, or several that say the same, by the latest of them.
export function EventLine({ of, mine = "" }: { of: Folded; mine?: string }) {
  const { e, times, since } = of;
  if (of.of.length > 0) return <ManyLine of={of} mine={mine} />;
  const parts = about(e, mine);
  // The error of a process says it already.
  const exit = typeof e.exit_code === "number" && !e.text.includes(`exit status ${e.exit_code}`) ? `exit status ${e.exit_code}` : "";
  return (
    <li>
      <Head of={e} />
      <span>
        <span class="strong">{e.kind}</span>{" "}
        {parts.map((p, i) => (
          <Fragment key={i}>{p} </Fragment>
        ))}
        {e.text && <span class="event-text">{e.text}</span>}
        {exit && <span class="quiet"> {exit}</span>}
        {times > 1 && (
          <span class="quiet">
            {" "}
            {count(times)} times
            {since && (
              <>
                {" "}
                since <time title={exact(since)}>{clock(since)}</time>
              </>
            )}
          </span>
        )}
        {e.who && <span class="quiet"> by {e.who}</span>}
        {e.moves.length > 0 && (
          <details>
            <summary>
              {e.left_out > 0 ? `the first ${count(e.moves.length)} of ${plural(e.moves.length + e.left_out, "move")}` : plural(e.moves.length, "move")}
            </summary>
            <ul class="reasons">
              {e.moves.map((m) => (
                <li key={`${m.task}#${m.index}`}>
                  <a class="id" href={href("tasks", m.task)}>
                    {instance(m.task, m.index)}
                  </a>{" "}
                  {m.from || "no worker"} to {m.to || "no worker"}: {m.reason}
                </li>
              ))}
            </ul>
          </details>
        )}
      </span>
    </li>
  );
}

// ManyLine is what happened to several tasks at about one time, each when it is opened.
function ManyLine({ of: { e, of }, mine }: { of: Folded; mine: string }) {
  return (
    <li>
      <Head of={e} />
      <div>
        <span class="strong">{e.kind}</span> {plural(of.length, "task")}
        {e.who && <span class="quiet"> by {e.who}</span>}
        <details>
          <summary>which</summary>
          <ul class="reasons">
            {of.map((one) => (
              <li key={one.e.id}>
                {about(one.e, mine).map((p, i) => (
                  <Fragment key={i}>{p} </Fragment>
                ))}
                {one.e.text}
              </li>
            ))}
          </ul>
        </details>
      </div>
    </li>
  );
}
