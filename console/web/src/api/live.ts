// What the page knows of the cluster at every moment, and whether it still hears of it.
import { computed, effect, signal } from "@preact/signals";
import { ApiError, get, lines, wanted } from "./http";
import type { Status, WhoAmI, Worker, WorkerEvent } from "./types";

const RETRY = 400; // ms between attempts to hear again: what comes back is seen within a second
const BEAT = 1000; // ms between looks at the status
const CALM = 80; // ms between changes of the picture: of thousands of workers each is drawn anew
const BLINK = 1500; // ms that a worker may be gone before it is
const PATIENCE = 4000; // ms that an answer may take before the connection counts as lost

export const status = signal<Status | undefined>(undefined);
export const workers = signal<ReadonlyMap<string, Worker>>(new Map());
export const visible = signal(document.visibilityState !== "hidden");

// now is the scheduler's clock, as far as its last answer tells: ages are right though
// this machine's clock is not.
export const now = signal(Date.now());
let ahead = 0;

// heard says whether each source of the picture is heard now.
const heard = signal<Record<string, boolean>>({});
// lostAt is when the first of them fell silent; 0 while all are heard.
export const lostAt = signal(0);
export const lostWhy = signal("");
export const everLive = signal(false);

export type Link = "connecting" | "live" | "old" | "lost";

export const link = computed<Link>(() => {
  if (lostAt.value) return "lost";
  if (!everLive.value) return "connecting";
  return status.value?.stale ? "old" : "live";
});

export function hears(source: string, yes: boolean, why = ""): void {
  heard.value = { ...heard.value, [source]: yes };
  if (!yes) {
    lostWhy.value = why;
    if (!lostAt.value && !wanted.value) lostAt.value = Date.now();
    return;
  }
  if (Object.values(heard.value).every(Boolean)) {
    lostAt.value = 0;
    if (heard.value.workers && heard.value.status) everLive.value = true;
  }
}

// quiet takes a source out of the count: nobody listens to it now.
export function quiet(source: string): void {
  const rest = { ...heard.value };
  delete rest[source];
  heard.value = rest;
  if (Object.values(rest).every(Boolean)) lostAt.value = 0;
}

export const pause = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resume) => {
    const timer = setTimeout(resume, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resume()), { once: true });
  });

// words are what an API says; what a browser says of a connection tells nobody more.
const words = (err: unknown): string => (err instanceof ApiError ? err.message : err instanceof TypeError ? "" : String(err));

// Events of a watch: what is set, what is gone, and once that all has been told.
interface Told {
  type: string;
}

// follow keeps a copy of what a watch tells until it is aborted. What was known before
// and is not told again before "synced" is gone. Each batch is one change.
export async function follow<E extends Told, V>(
  source: string,
  address: string,
  item: (event: E) => V | null | undefined,
  name: (value: V) => string,
  from: ReadonlyMap<string, V>,
  changed: (all: ReadonlyMap<string, V>, synced: boolean) => void,
  stop: AbortSignal,
): Promise<void> {
  const all = new Map(from);
  while (!stop.aborted) {
    try {
      let stale: Set<string> | undefined = new Set(all.keys());
      for await (const batch of lines<E>(address, stop)) {
        for (const event of batch) {
          if (event.type === "synced") {
            for (const key of stale ?? []) all.delete(key);
            stale = undefined;
            hears(source, true);
            continue;
          }
          const value = item(event);
          if (!value) continue;
          stale?.delete(name(value));
          if (event.type === "deleted") all.delete(name(value));
          else all.set(name(value), value);
        }
        changed(all, stale === undefined);
      }
      if (!stop.aborted) hears(source, false, "the scheduler ended the stream");
    } catch (err) {
      if (stop.aborted) break;
      hears(source, false, words(err));
    }
    await pause(RETRY, stop);
  }
  quiet(source);
}

async function beat(stop: AbortSignal): Promise<void> {
  while (!stop.aborted) {
    const began = Date.now();
    let wait = BEAT;
    try {
      status.value = await get<Status>("/v1/status", AbortSignal.any([stop, AbortSignal.timeout(PATIENCE)]));
      const time = status.value.time;
      if (time) ahead = Date.parse(time) - (began + Date.now()) / 2;
      hears("status", true);
    } catch (err) {
      if (stop.aborted) break;
      hears("status", false, err instanceof DOMException ? "no answer" : words(err));
      wait = RETRY;
    }
    now.value = Date.now() + ahead;
    await pause(Math.max(50, wait - (Date.now() - began)), stop);
  }
}

// start listens for as long as the page is seen: a hidden tab keeps no connection, of
// which browsers have six to a server.
export function start(): void {
  document.addEventListener("visibilitychange", () => {
    visible.value = document.visibilityState !== "hidden";
  });
  setInterval(() => (now.value = Date.now() + ahead), 1000);
  effect(() => {
    if (!visible.value || wanted.value) return;
    const stop = new AbortController();
    void know(stop.signal);
    void beat(stop.signal);
    // A worker that is lost is told as gone, and soon as lost: only who stays away is
    // taken from the picture.
    const gone = new Map<string, number>();
    let due: ReturnType<typeof setTimeout> | undefined;
    const publish = (all: ReadonlyMap<string, Worker>) => {
      const next = new Map(all);
      const at = Date.now();
      for (const [name, w] of workers.peek()) {
        if (all.has(name)) continue;
        const since = gone.get(name) ?? at;
        gone.set(name, since);
        if (at - since < BLINK) next.set(name, w);
      }
      for (const name of gone.keys()) if (all.has(name) || !next.has(name)) gone.delete(name);
      clearTimeout(due);
      if (gone.size) due = setTimeout(() => publish(all), BLINK);
      workers.value = next;
    };
    let calm: ReturnType<typeof setTimeout> | undefined;
    let more = false; // than is drawn
    const draw = (all: ReadonlyMap<string, Worker>) => {
      calm = more ? setTimeout(draw, CALM, all) : undefined;
      if (more) publish(all);
      more = false;
    };
    void follow<WorkerEvent, Worker>(
      "workers",
      "/v1/workers:watch",
      (e) => e.worker,
      (w) => w.name,
      workers.peek(),
      (all, synced) => {
        if (!synced) return; // half a picture would be drawn, and drawn anew
        more = true;
        calm ??= setTimeout(draw, 0, all);
      },
      stop.signal,
    );
    return () => (clearTimeout(due), clearTimeout(calm), stop.abort());
  });
}

// me is who looks, as the scheduler knows them, and what they may do.
export const me = signal<WhoAmI | undefined>(undefined);

async function know(stop: AbortSignal): Promise<void> {
  while (!stop.aborted) {
    me.value = await get<WhoAmI>("/v1/whoami", stop).catch(() => me.peek());
    await pause(me.value ? 60_000 : RETRY, stop);
  }
}

// may says whether who looks may call an operation of the API, by its id. Buttons that
// would be refused are not shown.
export const may = (operation: string): boolean => me.value?.may.includes(operation) ?? false;
