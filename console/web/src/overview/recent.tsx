// Recent is the last quarter of an hour: how much moved and failed, and what happened.
import { useMemo } from "preact/hooks";
import { useEvents } from "../api/events";
import { totals } from "../api/functions";
import { now } from "../api/live";
import type { Event_ } from "../api/types";
import { count, number } from "../format";
import { href } from "../route";
import { EventLine } from "../ui/events";
import { fold } from "../ui/fold";
import { Section } from "../ui/parts";

const SPAN = 15 * 60_000; // ms
const STEPS = 60;
const SHOWN = 20;

// What one task does is left to its page: passes sum it up.
const DETAILS = new Set(["task.granted", "task.moved", "task.started", "task.stopped", "task.declared", "task.restarted", "program.task"]);

const moved = (e: Event_): number => (e.kind === "pass" ? e.moves.length + e.left_out : 0);
const failed = (e: Event_): number => (e.kind === "task.failed" || e.kind === "job.failed" ? Math.max(1, e.count) : 0);

function Spark({ events, of, word, bad }: { events: Event_[]; of: (e: Event_) => number; word: string; bad?: boolean }) {
  const end = Math.ceil(now.value / 15_000) * 15_000;
  const bars = new Array<number>(STEPS).fill(0);
  let sum = 0;
  for (const e of events) {
    const n = of(e);
    const i = Math.floor(((Date.parse(e.time ?? "") - end + SPAN) * STEPS) / SPAN);
    if (!n || !(i >= 0 && i < STEPS)) continue;
    bars[i] = (bars[i] ?? 0) + n;
    sum += n;
  }
  return <Bars bars={bars} strong={count(sum)} word={word} said="in 15 minutes" {...(bad && { bad })} />;
}

function Bars({ bars, strong, word, said, bad }: { bars: number[]; strong: string; word: string; said: string; bad?: boolean }) {
  const most = Math.max(...bars) || 1;
  return (
    <span class="spark" title={`${strong} ${word} ${said}`}>
      <svg viewBox="0 0 180 24" role="img" aria-label={`${strong} ${word} ${said}`}>
        <line x1="0" x2="180" y1="23.5" y2="23.5" />
        {bars.map((n, i) => n > 0 && <rect key={i} class={bad ? "bad" : ""} x={i * 3} width="2" y={23 - Math.max(2, (22 * n) / most)} height={Math.max(2, (22 * n) / most)} />)}
      </svg>
      <span>
        <strong>{strong}</strong> <span class="quiet">{word}</span>
      </span>
    </span>
  );
}

// Rate is calls a second, for as long as the page has looked.
function Rate() {
  const seen = totals.value;
  if (seen.length < 2) return null;
  const end = Math.ceil(now.value / 15_000) * 15_000;
  const ahead = now.value - Date.now(); // of this machine's clock, by which they were taken
  const bars = new Array<number>(STEPS).fill(0);
  const of = new Array<number>(STEPS).fill(0);
  for (const { at, rate } of seen) {
    const i = Math.floor(((at + ahead - end + SPAN) * STEPS) / SPAN);
    if (!(i >= 0 && i < STEPS)) continue;
    bars[i] = (bars[i] ?? 0) + rate;
    of[i] = (of[i] ?? 0) + 1;
  }
  const means = bars.map((sum, i) => sum / (of[i] || 1));
  const most = Math.max(...means);
  return <Bars bars={means} strong={number(most < 10 ? Math.round(most * 10) / 10 : Math.round(most))} word="calls/s at the peak" said="since this page was opened" />;
}

export function Recent() {
  const since = useMemo(() => new Date(now.peek() - SPAN).toISOString(), []);
  const happened = useEvents({ since }, 1000);
  if (!happened) return null;
  const list = fold(happened.events.filter((e) => !DETAILS.has(e.kind))).slice(0, SHOWN);
  return (
    <Section
      title="The last 15 minutes"
      aside={<a href={href("events")}>All events</a>}
    >
      <div class="sparks">
        <Spark events={happened.events} of={moved} word="moves" />
        <Spark events={happened.events} of={failed} word="failures" bad />
        <Rate />
      </div>
      {list.length === 0 ? (
        <p class="quiet">Nothing worth telling.</p>
      ) : (
        <ol class="feed">
          {list.map((of) => (
            <EventLine key={of.e.id} of={of} />
          ))}
        </ol>
      )}
    </Section>
  );
}
