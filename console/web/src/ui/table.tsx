// Lists as tables whose rows are links, walked by keys.
import type { ComponentChildren } from "preact";
import { count } from "../format";

export interface Column<T> {
  name: string;
  of: (row: T) => ComponentChildren;
  num?: boolean;
  // at says from which width on the column is shown: "phone" rows show no others.
  at?: "tablet" | "desktop";
  grow?: boolean;
  sort?: string;
}

interface Props<T> {
  label: string;
  rows: readonly T[];
  columns: readonly Column<T>[];
  name: (row: T) => string;
  link: (row: T) => string;
  chosen?: string;
  order?: string;
  onOrder?: (order: string) => void;
}

// walk moves the focus from row to row.
function walk(e: KeyboardEvent): void {
  const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[e.key];
  const table = e.currentTarget as HTMLElement;
  if (!step || !(e.target instanceof HTMLElement)) return;
  const links = [...table.querySelectorAll<HTMLAnchorElement>("a.row-link")];
  const at = links.findIndex((l) => l === document.activeElement);
  const next = links[Math.max(0, Math.min(links.length - 1, at + step))];
  if (at < 0 || !next) return;
  e.preventDefault();
  next.focus();
}

// MOST is how many rows are drawn: nobody reads more, and a browser would.
const MOST = 500;

export function Table<T>({ label, rows, columns, name, link, chosen, order, onOrder }: Props<T>) {
  const by = order?.replace(/^-/, "");
  return (
    <>
      <table class="list" aria-label={label} onKeyDown={walk}>
        <thead>
          <tr>
            {columns.map((c) => {
              const mine = c.sort !== undefined && c.sort === by;
              const down = mine && order?.startsWith("-");
              return (
                <th
                  key={c.name}
                  scope="col"
                  class={[c.num && "num", c.at, c.grow && "grow"].filter(Boolean).join(" ")}
                  aria-sort={mine ? (down ? "descending" : "ascending") : undefined}
                >
                  {c.sort && onOrder ? (
                    <button type="button" class="sort" onClick={() => onOrder(mine && !down ? `-${c.sort}` : c.sort!)}>
                      {c.name}
                      {mine && <span aria-hidden="true">{down ? " ↓" : " ↑"}</span>}
                    </button>
                  ) : (
                    c.name
                  )}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, MOST).map((row) => {
            const id = name(row);
            return (
              <tr key={id} class={id === chosen ? "chosen" : undefined}>
                {columns.map((c, i) => (
                  <td key={c.name} class={[c.num && "num", c.at, c.grow && "grow"].filter(Boolean).join(" ")}>
                    {i === 0 ? (
                      <a class="row-link" href={link(row)} aria-current={id === chosen ? "true" : undefined}>
                        {c.of(row)}
                      </a>
                    ) : (
                      c.of(row)
                    )}
                  </td>
                ))}
              </tr>
            );
          })}
        </tbody>
      </table>
      {rows.length > MOST && <p class="quiet pad">The first {MOST} of {count(rows.length)}; narrow the list to see the others.</p>}
    </>
  );
}
