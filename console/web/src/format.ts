// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const part = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

export const count = (n: number): string => whole.format(n);

export const number = (n: number): string => (Number.isInteger(n) || Math.abs(n) >= 100 ? whole.format(n) : part.format(n));

export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;

// share is a part of a whole, 0 to 1.
export const share = (n: number): string => (n > 0 && n < 0.001 ? "< 0.1 %" : `${number(Math.round(n * 1000) / 10)} %`);

// failing is how many of the calls fail: of none, nobody knows.
export const failing = (of: { rate: number; errors: number } | undefined): string => (of?.rate ? share(of.errors) : "–");

// span is a length of time, in milliseconds.
export function span(ms: number): string {
  if (ms < 0) ms = 0;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.floor(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

// age is how long before now something was: "4 s", "3 min".
export function age(time: string | null | undefined, now: number): string {
  if (!time) return "–";
  const s = Math.max(0, Math.floor((now - Date.parse(time)) / 1000));
  return s < 10 ? `${s} s` : span(s * 1000);
}

// until is how long after now something comes: "in 4 s", "in 3 min", "now".
export function until(time: string, now: number): string {
  const s = Math.ceil((Date.parse(time) - now) / 1000);
  if (s <= 0) return "now";
  return `in ${s < 10 ? `${s} s` : span(s * 1000)}`;
}

const exactly = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const hour = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export const exact = (time: string | null | undefined): string => (time ? exactly.format(new Date(time)) : "");

export const clock = (time: string | number): string => hour.format(new Date(time));

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(n: number): string {
  let unit = 0;
  while (n >= 1024 && unit < BYTES.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${n >= 10 || unit === 0 ? Math.round(n) : n.toFixed(1)} ${BYTES[unit]}`;
}

const natural = new Intl.Collator("en", { numeric: true });

// byName sorts w2 before w10.
export const byName = (a: string, b: string): number => natural.compare(a, b);

// load is the weight that a worker bears for its strength.
export const load = (w: { weight: number; strength: number }): number => w.weight / (w.strength || 1);

export const instance = (task: string, index: number): string => (index ? `${task}#${index}` : task);

// shortJob is a job's id where there is no room for all of it: its end, as ids begin with
// the time, which two jobs in a row share.
export function shortJob(id: string): string {
  return id.length > 8 ? "…" + id.slice(-6) : id;
}
