// All tasks, for the map of a cluster that is small enough to be drawn cell by cell, and
// the moves as they are seen.
import { effect, signal } from "@preact/signals";
import { wanted } from "./http";
import { follow, status, visible } from "./live";
import { route } from "../route";
import type { Task, TaskEvent } from "./types";

// DRAWN is up to how many tasks every instance is drawn. Of more, the map shows loads:
// nobody would tell the cells apart, and the list would weigh megabytes.
const DRAWN = 10_000;

// COLUMNS is up to how many workers are drawn as columns, which alone have cells.
export const COLUMNS = 60;

export interface Shift {
  task: string;
  index: number;
  from: string;
  to: string;
}

// tasks is undefined while they are not known, or too many.
export const tasks = signal<{ all: ReadonlyMap<string, Task> } | undefined>(undefined);
export const few = signal<boolean | undefined>(undefined);

// shifts are told to whoever draws them, in the order of what they hear.
const listeners = new Set<(shifts: Shift[]) => void>();

export function onShifts(f: (shifts: Shift[]) => void): () => void {
  listeners.add(f);
  return () => listeners.delete(f);
}

const places = new Map<string, string[]>();

function compare(all: ReadonlyMap<string, Task>, tell: boolean): void {
  const seen: Shift[] = [];
  for (const [id, task] of all) {
    const before = places.get(id);
    // Between two workers an instance is nowhere: where it was is remembered.
    const after: string[] = [];
    for (const i of task.instances) after[i.index] = i.worker || before?.[i.index] || "";
    if (tell) {
      task.instances.forEach(({ worker: to, index }) => {
        const from = before?.[index] ?? "";
        if (to && to !== from) seen.push({ task: id, index, from, to });
      });
    }
    places.set(id, after);
  }
  for (const id of places.keys()) if (!all.has(id)) places.delete(id);
  if (seen.length) for (const f of listeners) f(seen);
}

// startTasks listens while the map is looked at.
export function startTasks(): void {
  effect(() => {
    const s = status.value;
    if (!s?.tasks || !s.workers) return;
    few.value = s.tasks.declared <= DRAWN && s.workers.ready + s.workers.draining + s.workers.lost <= COLUMNS;
  });
  effect(() => {
    if (!visible.value || wanted.value || !few.value || route.value.screen !== "overview") return;
    const stop = new AbortController();
    let known = false;
    let due: ReturnType<typeof setTimeout> | undefined;
    void follow<TaskEvent, Task>(
      "tasks",
      "/v1/tasks:watch",
      (e) => e.task,
      (t) => t.id,
      tasks.peek()?.all ?? new Map(),
      (all, synced) => {
        if (!synced || due) return;
        due = setTimeout(
          () => {
            due = undefined;
            compare(all, known);
            known = true;
            tasks.value = { all };
          },
          known ? 80 : 0,
        );
      },
      stop.signal,
    );
    return () => {
      clearTimeout(due);
      stop.abort();
    };
  });
}
