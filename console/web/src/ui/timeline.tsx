// Timeline is what happened to one thing: a strip of its states, and under it the events.
import { useEvents, type EventFilter } from "../api/events";
import { now } from "../api/live";
import type { Event_ } from "../api/types";
import { clock, span } from "../format";
import { href } from "../route";
import { EventLine, toneOf } from "./events";
import { fold } from "./fold";
import { Failed, Section } from "./parts";
import type { Tone } from "./state";

// STATES is what a thing is after an event of a kind; other kinds change nothing.
const STATES: Record<string, [Tone, string]> = {
  "task.declared": ["warn", "waiting"],
  "task.granted": ["warn", "granted"],
  "task.moved": ["warn", "granted"],
  "task.started": ["ok", "running"],
  "task.restarted": ["ok", "running"],
  "task.failed": ["bad", "failed"],
  "task.stuck": ["bad", "stuck"],
  "task.held": ["bad", "held"],
  "task.stopped": ["idle", "stopped"],
  "task.gone": ["idle", "gone"],
  "worker.joined": ["ok", "there"],
  "worker.uncordoned": ["ok", "there"],
  "worker.forgotten": ["idle", "forgotten"],
  "worker.cordoned": ["warn", "cordoned"],
  "worker.draining": ["warn", "draining"],
  "worker.leaving": ["warn", "leaving"],
  "worker.left": ["idle", "away"],
  "worker.lost": ["bad", "lost"],
  "worker.fenced": ["bad", "fenced"],
  "job.queued": ["idle", "queued"],
  "job.starting": ["warn", "starting"],
  "job.running": ["ok", "running"],
  "job.failed": ["bad", "failed"],
  "job.lost": ["bad", "lost"],
  "job.timed-out": ["bad", "timed out"],
  "job.succeeded": ["idle", "done"],
  "job.stopped": ["idle", "stopped"],
};

// own says whether an event tells the state of what the page is about: of a worker not
// what its tasks do, of a task not what its other instances do.
const own = (e: Event_, of: EventFilter): boolean => (of.worker ? e.kind.startsWith("worker.") : of.task ? e.kind.startsWith("task.") && !e.subject?.index : true);

// Strip is from the first event until now; of what is over, until the last.
function Strip({ events, of, over }: { events: Event_[]; of: EventFilter; over: boolean }) {
  const list = events.filter((e) => e.time && own(e, of)).reverse();
  const first = list[0];
  if (!first?.time || list.length < 2) return null;
  const begin = Date.parse(first.time);
  const last = list.at(-1)!;
  const end = over ? Date.parse(last.time!) + 1 : Math.max(now.value, Date.parse(last.time!) + 1);
  const at = (time: number) => (100 * (time - begin)) / (end - begin);
  const bands: { from: number; to: number; tone: Tone; word: string }[] = [];
  for (const e of list) {
    const state = STATES[e.kind];
    if (!state || !e.time) continue;
    const from = Date.parse(e.time);
    const before = bands.at(-1);
    if (before) before.to = from;
    bands.push({ from, to: end, tone: state[0], word: state[1] });
  }
  if (!bands.length) return null;
  return (
    <div class="strip" role="img" aria-label={`${span(end - begin)} from ${clock(begin)} until ${over ? clock(last.time!) : "now"}: ${bands.map((b) => b.word).slice(-8).join(", then ")}`}>
      <svg viewBox="0 0 100 20" preserveAspectRatio="none">
        {bands.map((b) => (
          <rect key={b.from} class={`band ${b.tone}`} x={at(b.from)} width={Math.max(0.15, at(b.to) - at(b.from))} y="4" height="12">
            <title>{`${b.word} from ${clock(b.from)}, ${span(b.to - b.from)}`}</title>
          </rect>
        ))}
        {list.map((e) => (
          <line key={e.id} class={`tick ${toneOf(e.kind)}`} x1={at(Date.parse(e.time ?? ""))} x2={at(Date.parse(e.time ?? ""))} y1="1" y2="19" />
        ))}
      </svg>
      <span class="quiet">{clock(begin)}</span>
      <span class="quiet">{over ? clock(last.time!) : "now"}</span>
    </div>
  );
}

export function Timeline({ of, mine, over = false }: { of: EventFilter; mine: string; over?: boolean }) {
  const happened = useEvents(of, 100);
  if (!happened) return null;
  const shown = fold(happened.events).slice(0, 30);
  return (
    <Section title="Timeline" aside={<a href={href("events", "", of as Record<string, string>)}>All in events</a>}>
      {happened.error && shown.length === 0 && <Failed what="What happened cannot be shown." error={happened.error} />}
      {!happened.error && shown.length === 0 && <p class="quiet">Nothing that is still kept.</p>}
      <Strip events={happened.events} of={of} over={over} />
      <ol class="feed">
        {shown.map((of) => (
          <EventLine key={of.e.id} of={of} mine={mine} />
        ))}
      </ol>
    </Section>
  );
}
