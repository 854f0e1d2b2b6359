// States as a shape and a word: colour alone says nothing.
export type Tone = "ok" | "warn" | "bad" | "idle" | "could";

const TONES: Record<string, Tone> = {
  running: "ok", ready: "ok", succeeded: "ok", finished: "ok",
  waiting: "warn", granted: "warn", starting: "warn", stopping: "warn", queued: "idle", draining: "warn", cordoned: "warn",
  away: "warn", restarting: "warn", launched: "warn", trial: "warn",
  failing: "bad", stuck: "bad", held: "bad", lost: "bad", failed: "bad", "timed-out": "bad", killed: "bad",
  stopped: "idle", growing: "warn", shrinking: "warn", deleting: "warn", asked: "warn", started: "warn", leaving: "warn", refused: "warn",
};

// The API's words for states that are no words of everyday language.
const WORDS: Record<string, string> = { "timed-out": "timed out" };

export const word = (state: string): string => WORDS[state] ?? state;

export const tone = (state: string): Tone => TONES[state] ?? "idle";

// A disc for what goes well, a ring for what is on its way, a triangle for what is wrong,
// a bar for what rests.
function Shape({ of }: { of: Tone }) {
  switch (of) {
    case "ok":
      return <circle cx="5" cy="5" r="4" fill="currentColor" />;
    case "warn":
    case "could":
      return <circle cx="5" cy="5" r="3" fill="none" stroke="currentColor" stroke-width="2" />;
    case "bad":
      return <path d="M5 .8 9.6 9H.4z" fill="currentColor" />;
    default:
      return <rect x="1" y="3.5" width="8" height="3" rx="1.5" fill="currentColor" />;
  }
}

export function Mark({ of }: { of: Tone }) {
  return (
    <svg class={`mark ${of}`} viewBox="0 0 10 10" width="10" height="10" aria-hidden="true">
      <Shape of={of} />
    </svg>
  );
}

export function State({ state }: { state: string }) {
  const of = tone(state);
  return (
    <span class={`state ${of}`}>
      <Mark of={of} /> {word(state) || "–"}
    </span>
  );
}
