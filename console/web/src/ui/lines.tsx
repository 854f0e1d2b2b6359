// Lines is a small picture of numbers over time: what they are now in words, what they
// were as lines on one scale.
import type { ComponentChildren } from "preact";
import { span } from "../format";

export interface Line {
  word: string;
  now: ComponentChildren;
  of: readonly number[];
  bad?: boolean;
}

const WIDE = 240;
const HIGH = 44;

export function Lines({ title, at, lines }: { title: string; at: readonly number[]; lines: readonly Line[] }) {
  const most = Math.max(1e-9, ...lines.flatMap((l) => l.of));
  const from = at[0] ?? 0;
  const long = Math.max(1, (at.at(-1) ?? 0) - from);
  const path = (of: readonly number[]) =>
    of.map((n, i) => `${i ? "L" : "M"}${((WIDE * ((at[i] ?? from) - from)) / long).toFixed(1)} ${(HIGH - 1.5 - ((HIGH - 4) * n) / most).toFixed(1)}`).join("");
  const words = at.length > 1 ? `${title} over the last ${span(long)}` : `${title}: the picture begins now`;
  return (
    <figure class="lines card">
      <figcaption>
        <span class="quiet">{title}</span>
        {lines.map((l) => (
          <span key={l.word} class={l.bad ? "bad-text" : ""}>
            <strong class="num">{l.now}</strong> <span class="quiet">{l.word}</span>
          </span>
        ))}
      </figcaption>
      <svg viewBox={`0 0 ${WIDE} ${HIGH}`} preserveAspectRatio="none" role="img" aria-label={words}>
        <line x1="0" x2={WIDE} y1={HIGH - 0.5} y2={HIGH - 0.5} />
        {at.length > 1 && lines.map((l, i) => <path key={l.word} class={l.bad ? "bad" : i ? "second" : ""} d={path(l.of)} />)}
      </svg>
    </figure>
  );
}
