// What the rules say of workers, as columns, marks and words.
import type { WhyFinding, WhyWorker } from "../api/types";
import type { Tone } from "./state";

// The rules in the scheduler's order, by the words of their columns.
const WORDS: Record<string, string> = {
  state: "State", pin: "Pin", kind: "Kind", command: "Command", labels: "Labels", replicas: "Replicas", tasks: "Tasks", capacity: "Capacity", jobs: "Jobs", affinity: "Affinity",
  spread: "Spread", key: "Key", preference: "Prefers", load: "Load",
};
const ORDER = Object.keys(WORDS);

export const word = (rule: string): string => WORDS[rule] ?? rule;

// columns are the rules that concern any of the workers, in order; one that this page does
// not know comes last.
export function columns(rows: readonly WhyWorker[]): string[] {
  const rank = (rule: string) => (ORDER.includes(rule) ? ORDER.indexOf(rule) : ORDER.length);
  return [...new Set(rows.flatMap((r) => r.findings.map((f) => f.rule)))].sort((a, b) => rank(a) - rank(b));
}

const WORST = ["stops", "weighs", "passes"];
const SAID: Record<string, string> = { stops: "stops it", weighs: "speaks for another", passes: "lets it pass" };
const TONES: Record<string, Tone> = { stops: "bad", weighs: "could", passes: "ok" };

// verdict is what a rule says of a worker in one mark, and in words with each value and limit.
export function verdict(w: WhyWorker, rule: string): { tone: Tone; said: string; value: string } | undefined {
  const found = w.findings.filter((f) => f.rule === rule);
  const outcome = WORST.find((o) => found.some((f) => f.outcome === o));
  if (!outcome) return undefined;
  const first = found.filter((f) => f.outcome === outcome);
  const rest = found.filter((f) => f.outcome !== outcome);
  return { tone: TONES[outcome] ?? "idle", said: `${SAID[outcome]}: ${[...first, ...rest].map(measure).join("; ")}`, value: first[0]?.value ?? "" };
}

// measure is a value and its limit, after what they are of unless the limit says so; a
// limit that is just what there is says nothing more.
function measure(f: WhyFinding): string {
  const says = (what: string) => f.limit.endsWith(` ${what}`);
  const of = f.name && !says(f.name) ? `${f.name}: ` : "";
  return says(f.value) ? of + f.value : `${of}${f.value}, ${f.limit}`;
}
