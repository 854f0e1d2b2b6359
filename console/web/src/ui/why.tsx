// The table of workers and rules: where each rule lets an instance pass, where it stops it.
import { useState } from "preact/hooks";
import type { WhyInstance, WhyMove } from "../api/types";
import { clock, count, plural } from "../format";
import { href } from "../route";
import { exact } from "../format";
import { Mark } from "./state";
import { columns, verdict, word } from "./verdict";

// steps go from mark to mark by the arrow keys: only one of them is in the order of tabs.
function steps(e: KeyboardEvent): void {
  const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[e.key] ?? [0, 0];
  const cell = (e.target as HTMLElement).closest<HTMLTableCellElement>("td");
  if (!cell || !(down || right) || !(e.target instanceof HTMLButtonElement)) return;
  const row = cell.parentElement as HTMLTableRowElement;
  const next = (e.currentTarget as HTMLTableElement).tBodies[0]?.rows[row.sectionRowIndex + down!]?.cells[cell.cellIndex + right!];
  e.preventDefault();
  next?.querySelector<HTMLElement>("button")?.focus();
}

// WhyTable is of an instance of a task, or of a job.
export function WhyTable({ w, onMore }: { w: Pick<WhyInstance, "workers" | "all_workers" | "fitting_workers">; onMore?: () => void }) {
  const [at, setAt] = useState("");
  const rules = columns(w.workers);
  const here = w.workers.find((r) => r.chosen)?.worker ?? "";
  const others = w.all_workers - (here ? 1 : 0);
  const more = w.all_workers - w.workers.length;
  let reading = "";
  const marks = w.workers.map((r) =>
    rules.map((rule) => {
      const v = verdict(r, rule);
      const key = `${r.worker} ${rule}`;
      if (v && key === at) reading = `${r.worker}, ${word(rule).toLowerCase()}: ${v.said}`;
      return { rule, key, v };
    }),
  );
  // Where there is little room, a rule that all workers pass needs no column.
  const same = new Set(rules.filter((_, i) => marks.every((m) => m[i]?.v?.tone === "ok")));
  if (same.size === rules.length) same.clear();
  const first = `${w.workers[0]?.worker} ${rules.find((r) => !same.has(r)) ?? rules[0]}`;
  return (
    <>
      <h3>
        {here ? "Why not elsewhere" : "Worker by worker"}{" "}
        <span class="quiet">
          {others === 0 ? "there is no other worker" : w.fitting_workers ? `${count(w.fitting_workers)} of ${plural(others, here ? "other worker" : "worker")} could take it` : `none of ${plural(others, here ? "other worker" : "worker")} can take it`}
        </span>
      </h3>
      <div class="wide-table">
        <table class="why" onKeyDown={steps}>
          <thead>
            <tr>
              <th scope="col">Worker</th>
              <th scope="col">Fits</th>
              {rules.map((r) => (
                <th scope="col" class={same.has(r) ? "rule same" : "rule"} key={r}>
                  {word(r)}
                </th>
              ))}
              <th scope="col" class="reason">
                What stops it first
              </th>
            </tr>
          </thead>
          <tbody>
            {w.workers.map((r, n) => (
              <tr key={r.worker} class={r.chosen ? "chosen" : undefined}>
                <th scope="row">
                  <a class="id" href={href("workers", r.worker)}>
                    {r.worker}
                  </a>
                </th>
                <td class="verdict">
                  {r.chosen ? "here" : r.fits ? "could" : "no"}
                </td>
                {marks[n]?.map(({ rule, key, v }) => (
                  <td key={rule} class={same.has(rule) ? "rule same" : "rule"}>
                    {v ? (
                      <button
                        type="button"
                        class={key === at ? "plain on" : "plain"}
                        aria-label={`${word(rule)} of ${r.worker} ${v.said}`}
                        title={v.said}
                        tabIndex={key === (at || first) ? 0 : -1}
                        onClick={() => setAt(key)}
                        onFocus={() => setAt(key)}
                        onPointerEnter={(e) => e.pointerType === "mouse" && setAt(key)}
                      >
                        <Mark of={v.tone} />
                        {rule === "load" && <span class="num">{v.value}</span>}
                      </button>
                    ) : (
                      <span class="quiet">–</span>
                    )}
                  </td>
                ))}
                <td class="reason">{r.reason || (r.chosen || !here ? "" : "nothing; running instances are not moved without need")}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {same.size > 0 && <p class="quiet passed">All of them pass: {[...same].map(word).join(", ")}.</p>}
      <p class="reading">
        {reading || (
          <>
            <Mark of="ok" /> passes <Mark of="bad" /> stops it <Mark of="could" /> speaks for another worker. <span class="quiet">Choose a mark for its value and limit.</span>
          </>
        )}
      </p>
      {more > 0 && (
        <p class="quiet">
          {plural(more, "other worker")}, further from it.{" "}
          {onMore && (
            <button type="button" onClick={onMore}>
              Show more
            </button>
          )}
        </p>
      )}
    </>
  );
}

// Moves are where an instance came from, and why each time.
export function Moves({ of }: { of: readonly WhyMove[] }) {
  if (of.length === 0) return null;
  return (
    <>
      <h3>Its moves</h3>
      <ul class="feed">
        {of.map((m) => (
          <li key={`${m.time} ${m.generation}`}>
            {m.time ? (
              <time class="quiet" dateTime={m.time} title={exact(m.time)}>
                {clock(m.time)}
              </time>
            ) : (
              <span />
            )}
            <Mark of={m.to ? "ok" : "idle"} />
            <span>
              {m.from ? <Place name={m.from} /> : "no worker"} to {m.to ? <Place name={m.to} /> : "no worker"}: {m.reason}
            </span>
          </li>
        ))}
      </ul>
    </>
  );
}

function Place({ name }: { name: string }) {
  return (
    <a class="id" href={href("workers", name)}>
      {name}
    </a>
  );
}
