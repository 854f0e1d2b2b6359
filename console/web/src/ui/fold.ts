// Events that repeat, and those that are of many tasks at once, as one line each.
import type { Event_ } from "../api/types";

export interface Folded {
  e: Event_; // the latest of them
  times: number; // how often it happened
  since: string; // when the first of several was; empty of one
  of: readonly Folded[]; // the lines of many tasks that this one stands for; empty of one task
}

interface Line extends Folded {
  key: string;
}

// alike is what events that are told of as one have in common. Passes each have their moves.
function alike(e: Event_): string {
  const s = e.subject;
  return e.moves.length > 0 || e.left_out > 0 ? e.id : JSON.stringify([e.kind, s?.task, s?.index, s?.worker, s?.job, s?.program, s?.pool, e.from, e.text, e.who, e.exit_code]);
}

const sameInstance = (a: Event_, b: Event_): boolean => !!a.subject?.task && a.subject.task === b.subject?.task && a.subject.index === b.subject.index;

// fold puts those together that say the same and follow each other, newest first. A task
// that fails again and again is started again in between: that is two lines.
export function fold(events: readonly Event_[]): Folded[] {
  const out: Line[] = [];
  for (const e of events) {
    const key = alike(e);
    const last = out.at(-1);
    const before = out.at(-2);
    const line = last?.key === key ? last : last && before?.key === key && sameInstance(last.e, before.e) ? before : undefined;
    if (line) {
      line.times += Math.max(1, e.count);
      line.since = e.time ?? "";
    } else out.push({ e, key, times: Math.max(1, e.count), since: "", of: [] });
  }
  return gather(out);
}

const MANY = 4; // lines of as many tasks are one
const APART = 2000; // ms, at most, from one to the next

// What goes wrong with a task is told of by itself: its text differs.
const ALONE = /\.(failed|stuck|held|suspected)$/;

// gather puts lines together that say the same of several tasks at about one time.
function gather(lines: readonly Line[]): Folded[] {
  const out: Folded[] = [];
  for (let i = 0; i < lines.length; ) {
    const first = lines[i]!;
    let end = i + 1;
    while (end < lines.length && together(lines[end - 1]!, lines[end]!)) end++;
    const run = lines.slice(i, end).map(({ key: _, ...line }): Folded => line);
    if (run.length >= MANY) out.push({ e: first.e, times: 1, since: "", of: run });
    else out.push(...run);
    i = end;
  }
  return out;
}

const together = ({ e: a }: Line, { e: b }: Line): boolean =>
  a.kind === b.kind && !ALONE.test(a.kind) && !!a.subject?.task && !!b.subject?.task && a.who === b.who && a.subject.program === b.subject.program && Math.abs(Date.parse(a.time ?? "") - Date.parse(b.time ?? "")) <= APART;
