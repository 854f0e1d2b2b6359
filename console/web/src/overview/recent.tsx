// Recent is the last quarter of an hour: how much moved and failed, and what happened.
import { useMemo } from "preact/hooks";
import { useEvents } from "../api/events";
import { now } from "../api/live";
import type { Event_ } from "../api/types";
import { count } from "../format";
import { href } from "../route";
import { EventLine } from "../ui/events";
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
  const most = Math.max(1, ...bars);
  return (
    <span class="spark">
      <svg viewBox="0 0 180 24" role="img" aria-label={`${count(sum)} ${word} in 15 minutes`}>
        <line x1="0" x2="180" y1="23.5" y2="23.5" />
        {bars.map((n, i) => n > 0 && <rect key={i} class={bad ? "bad" : ""} x={i * 3} width="2" y={23 - Math.max(2, (22 * n) / most)} height={Math.max(2, (22 * n) / most)} />)}
      </svg>
      <span>
        <strong>{count(sum)}</strong> <span class="quiet">{word}</span>
      </span>
    </span>
  );
}

export function Recent() {
  const since = useMemo(() => new Date(now.peek() - SPAN).toISOString(), []);
  const happened = useEvents({ since }, 1000);
  if (!happened) return null;
  const list = happened.events.filter((e) => !DETAILS.has(e.kind)).slice(0, SHOWN);
  return (
    <Section
      title="The last 15 minutes"
      aside={<a href={href("events")}>All events</a>}
    >
      <div class="sparks">
        <Spark events={happened.events} of={moved} word="moves" />
        <Spark events={happened.events} of={failed} word="failures" bad />
      </div>
      {list.length === 0 ? (
        <p class="quiet">Nothing worth telling.</p>
      ) : (
        <ol class="feed">
          {list.map((e) => (
            <EventLine key={e.id} e={e} />
          ))}
        </ol>
      )}
    </Section>
  );
}
