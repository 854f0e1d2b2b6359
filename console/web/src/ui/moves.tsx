// Moves of a plan, summed up: from where to where, how many, and why.
import type { Move, Plan } from "../api/types";
import { count, plural } from "../format";

export interface Stream {
  from: string; // empty: from no worker
  to: string; // empty: to no worker
  reason: string;
  forced: boolean;
  n: number;
}



export function streams(moves: readonly Move[]): Stream[] {
  const found = new Map<string, Stream>();
  for (const m of moves) {
    const key = `${m.from}\n${m.to}\n${m.reason}`;
    const s = found.get(key);
    if (s) s.n++;
    else found.set(key, { from: m.from, to: m.to, reason: m.reason, forced: m.forced, n: 1 });
  }
  return [...found.values()].sort((a, b) => b.n - a.n);
}

export function Moves({ plan, most }: { plan: Plan; most: number }) {
  const all = streams(plan.moves);
  if (!all.length) return null;
  return (
    <table class="plain-table moves">
      <thead>
        <tr>
          <th scope="col">From</th>
          <th scope="col">To</th>
          <th scope="col" class="num">
            Moves
          </th>
          <th scope="col">Why</th>
        </tr>
      </thead>
      <tbody>
        {all.slice(0, most).map((s) => (
          <tr key={`${s.from} ${s.to} ${s.reason}`}>
            <td class="id">{s.from || "no worker"}</td>
            <td class="id">{s.to || "no worker"}</td>
            <td class="num">{count(s.n)}</td>
            <td class="reason">{s.reason}</td>
          </tr>
        ))}
      </tbody>
      {all.length > most && (
        <tfoot>
          <tr>
            <td colSpan={4} class="quiet">
              and {plural(all.length - most, "more way", "more ways")}
            </td>
          </tr>
        </tfoot>
      )}
    </table>
  );
}
