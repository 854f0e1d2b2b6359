// Flow draws a plan: workers before on the left, after on the right, and between them
// ribbons as wide as what moves.
import { useEffect, useRef, useState } from "preact/hooks";
import { byName, count, plural } from "../format";
import type { Stream } from "../ui/moves";

const ROWS = 20; // workers a side; what is beyond goes as one
const GAP = 6;
const BAR = 6;

interface Node {
  name: string;
  n: number;
  y: number;
  h: number;
}

// side is the workers of one side with what leaves or reaches each; those that are too
// many are put together under the name "others".
function side(of: readonly Stream[], pick: (s: Stream) => string, none: string): { nodes: Node[]; key: (s: Stream) => string } {
  const sums = new Map<string, number>();
  for (const s of of) sums.set(pick(s) || none, (sums.get(pick(s) || none) ?? 0) + s.n);
  const big = [...sums].sort((a, b) => b[1] - a[1]);
  const kept = new Set(big.slice(0, ROWS).map(([name]) => name));
  const rest = big.slice(ROWS);
  const others = `${count(rest.length)} others`;
  const nodes = big
    .slice(0, ROWS)
    .sort(([a], [b]) => byName(a, b))
    .map(([name, n]): Node => ({ name, n, y: 0, h: 0 }));
  if (rest.length) nodes.push({ name: others, n: rest.reduce((sum, [, n]) => sum + n, 0), y: 0, h: 0 });
  return { nodes, key: (s) => (kept.has(pick(s) || none) ? pick(s) || none : others) };
}

export function Flow({ streams, gone }: { streams: readonly Stream[]; gone: readonly string[] }) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(600);
  useEffect(() => {
    if (!box.current) return;
    const size = new ResizeObserver(([e]) => e && setWidth(e.contentRect.width));
    size.observe(box.current);
    return () => size.disconnect();
  }, []);
  const left = side(streams, (s) => s.from, "no worker");
  const right = side(streams, (s) => s.to, "no worker");
  const most = Math.max(left.nodes.length, right.nodes.length);
  const total = streams.reduce((sum, s) => sum + s.n, 0) || 1;
  const height = Math.max(200, most * 26);
  for (const { nodes } of [left, right]) {
    const room = height - GAP * (nodes.length - 1) - 2;
    // Each is seen and its name legible, however little it moves.
    const least = Math.min(14, room / nodes.length);
    const scale = (room - least * nodes.length) / total;
    let y = 1;
    for (const n of nodes) {
      n.y = y;
      n.h = least + n.n * scale;
      y += n.h + GAP;
    }
  }
  const label = Math.min(150, width * 0.24);
  const [x1, x2] = [label + BAR, width - label - BAR];
  const used = new Map<string, number>();
  const slot = (n: Node, which: string, part: number): [number, number] => {
    const from = used.get(which + n.name) ?? 0;
    const h = (n.h * part) / n.n;
    used.set(which + n.name, from + h);
    return [n.y + from, h];
  };
  const merged = new Map<string, { l: Node; r: Node; n: number; forced: boolean }>();
  for (const s of streams) {
    const l = left.nodes.find((n) => n.name === left.key(s));
    const r = right.nodes.find((n) => n.name === right.key(s));
    if (!l || !r) continue;
    const k = `${l.name}\n${r.name}\n${s.forced}`;
    const m = merged.get(k);
    if (m) m.n += s.n;
    else merged.set(k, { l, r, n: s.n, forced: s.forced });
  }
  const ribbons = [...merged.values()].sort((a, b) => a.l.y - b.l.y || a.r.y - b.r.y);
  return (
    <div class="flow" ref={box}>
      <svg width={width} height={height} role="img" aria-label={`${plural(total, "move")} from ${plural(left.nodes.length, "place")} to ${count(right.nodes.length)}; the table below has them as words`}>
        {ribbons.map((b) => {
          const [y1, h1] = slot(b.l, "l", b.n);
          const [y2, h2] = slot(b.r, "r", b.n);
          const mid = (x1 + x2) / 2;
          return (
            <path
              key={`${b.l.name} ${b.r.name} ${b.forced}`}
              class={b.forced ? "ribbon forced" : "ribbon"}
              d={`M${x1} ${y1}C${mid} ${y1} ${mid} ${y2} ${x2} ${y2}V${y2 + h2}C${mid} ${y2 + h2} ${mid} ${y1 + h1} ${x1} ${y1 + h1}Z`}
            >
              <title>{`${b.l.name} to ${b.r.name}: ${plural(b.n, "move")}${b.forced ? ", forced" : ""}`}</title>
            </path>
          );
        })}
        {left.nodes.map((n) => (
          <g key={n.name} class={gone.includes(n.name) ? "node gone" : "node"}>
            <rect x={label} y={n.y} width={BAR} height={n.h} rx="1" />
            <text x={label - 8} y={n.y + n.h / 2} text-anchor="end" dominant-baseline="central">
              {n.name} <tspan class="n">{count(n.n)}</tspan>
            </text>
          </g>
        ))}
        {right.nodes.map((n) => (
          <g key={n.name} class="node">
            <rect x={width - label - BAR} y={n.y} width={BAR} height={n.h} rx="1" />
            <text x={width - label + 8} y={n.y + n.h / 2} dominant-baseline="central">
              {n.name} <tspan class="n">+{count(n.n)}</tspan>
            </text>
          </g>
        ))}
      </svg>
      <p class="legend quiet">
        <span class="key forced" /> must move <span class="key chosen" /> is moved to even out
      </p>
    </div>
  );
}
