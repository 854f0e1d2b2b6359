// Events that repeat, one after the other, as one line.
import type { Event_ } from "../api/types";

export interface Folded {
  e: Event_; // the latest of them
  times: number; // how often it happened
  since: string; // when the first of several was; empty of one
}

// alike is what events that are told of as one have in common. Passes each have their moves.
function alike(e: Event_): string {
  const s = e.subject;
  return e.moves.length > 0 || e.left_out > 0 ? e.id : JSON.stringify([e.kind, s?.task, s?.index, s?.worker, s?.job, s?.program, s?.pool, e.from, e.text, e.who, e.exit_code]);
}

// fold puts those together that say the same and follow each other, newest first.
export function fold(events: readonly Event_[]): Folded[] {
  const out: Folded[] = [];
  let last = "";
  for (const e of events) {
    const key = alike(e);
    const line = out.at(-1);
    if (line && key === last) {
      line.times += Math.max(1, e.count);
      line.since = e.time ?? "";
    } else out.push({ e, times: Math.max(1, e.count), since: "" });
    last = key;
  }
  return out;
}
