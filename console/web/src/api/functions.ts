// What the page has seen of functions while it was open: how their calls went, over time.
import { signal } from "@preact/signals";
import type { Function_ } from "./types";

export interface Sample {
  at: number; // ms
  rate: number; // calls a second since the sample before
  errors: number; // of them, 0 to 1
  p50: number; // ms
  p99: number;
  waiting: number;
}

const MOST = 150; // of each function
const LEAST = 900; // ms between two
const FUNCTIONS = 500;

interface Past {
  calls: number;
  errors: number;
  at: number;
  samples: Sample[];
}

const past = new Map<string, Past>();

// seen grows with each note, so that what draws samples is drawn again.
const seen = signal(0);

// note takes in what the gateway says now. A count that has gone back is a gateway's that
// began anew.
export function note(list: readonly Function_[]): void {
  const at = Date.now();
  for (const f of list) {
    const old = past.get(f.name);
    if (old && at - old.at < LEAST) continue;
    if (!old && past.size >= FUNCTIONS) continue;
    const samples = old?.samples ?? [];
    if (old && f.calls >= old.calls) {
      const calls = f.calls - old.calls;
      const errors = Math.max(0, f.errors - old.errors);
      samples.push({ at, rate: (1000 * calls) / (at - old.at), errors: calls ? Math.min(1, errors / calls) : 0, p50: f.p50_ms, p99: f.p99_ms, waiting: f.waiting });
      if (samples.length > MOST) samples.shift();
    }
    past.set(f.name, { calls: f.calls, errors: f.errors, at, samples });
  }
  seen.value++;
}

export function samplesOf(name: string): readonly Sample[] {
  void seen.value;
  return past.get(name)?.samples ?? [];
}

// Calls are how all functions together go.
export interface Calls {
  rate: number; // calls a second
  errors: number; // of them, 0 to 1
  slowest: number; // p99 of the function that is slowest, ms
}

const TOTALS = 450; // of a quarter of an hour, at one every two seconds

let sums: { calls: number; errors: number; at: number } | undefined;

// totals are calls a second over time, as long as the page has looked.
export const totals = signal<readonly { at: number; rate: number }[]>([]);
export const calls = signal<Calls | undefined>(undefined);

// sumUp takes in all functions of the gateway.
export function sumUp(list: readonly Function_[]): void {
  const at = Date.now();
  if (sums && at - sums.at < LEAST) return;
  const next = { calls: 0, errors: 0, at };
  let slowest = 0;
  for (const f of list) {
    next.calls += f.calls;
    next.errors += f.errors;
    slowest = Math.max(slowest, f.p99_ms);
  }
  if (sums && next.calls >= sums.calls) {
    const made = next.calls - sums.calls;
    const rate = (1000 * made) / (at - sums.at);
    calls.value = { rate, errors: made ? Math.min(1, Math.max(0, next.errors - sums.errors) / made) : 0, slowest };
    totals.value = [...totals.peek(), { at, rate }].slice(-TOTALS);
  }
  sums = next;
}
