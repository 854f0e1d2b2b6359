// What happened, as a list that grows while it is looked at.
import { useEffect, useState } from "preact/hooks";
import { get, lines, path } from "./http";
import { pause, visible } from "./live";
import type { EventNews, Event_, ListEvents } from "./types";

export interface EventFilter {
  task?: string;
  worker?: string;
  job?: string;
  program?: string;
  pool?: string;
  kind?: string;
  since?: string;
}

export interface Happened {
  events: Event_[]; // newest first
  more: string; // where the list goes on; empty if it ends
  missed: boolean; // between two of them some were missed
  error?: Error;
}

const RETRY = 500; // ms
const KEPT = 2000; // of a page that is looked at for long, the newest

// latest orders events by their times. The log is in the order in which the schedulers have
// written, which is a moment later, and of what repeats up to minutes.
const latest = (events: Event_[]): Event_[] => events.sort((a, b) => Date.parse(b.time ?? "") - Date.parse(a.time ?? "") || 0);

// useEvents lists what happened and goes on with what happens. A list that is taken from
// a page on does not grow.
export function useEvents(filter: EventFilter, page: number, from = ""): Happened | undefined {
  const [state, set] = useState<{ key: string; happened: Happened }>();
  const key = JSON.stringify([filter, page, from]);
  const seen = visible.value;
  useEffect(() => {
    if (!seen) return;
    const stop = new AbortController();
    void (async () => {
      let events: Event_[] = [];
      let more = "";
      let missed = false;
      let after: string | undefined;
      const show = (error?: Error) => set({ key, happened: { events, more, missed, ...(error && { error }) } });
      while (!stop.signal.aborted) {
        try {
          if (after === undefined) {
            const list: ListEvents = await get(path(["events"], { ...filter, page_size: page, page_token: from }), stop.signal);
            events = latest(list.events);
            more = list.next_page_token;
            after = list.latest;
            show();
          }
          if (from) return;
          const { since: _, ...same } = filter;
          for await (const batch of lines<EventNews>(path(["events:watch"], { ...same, after }).replace("%3A", ":"), stop.signal)) {
            for (const news of batch) {
              if (news.type === "missed") missed = true;
              if (!news.event) continue;
              after = news.event.id;
              events = [news.event, ...events];
            }
            events = latest(events).slice(0, KEPT);
            show();
          }
        } catch (err) {
          if (stop.signal.aborted) return;
          show(err instanceof Error ? err : new Error(String(err)));
        }
        await pause(RETRY, stop.signal);
      }
    })();
    return () => stop.abort();
  }, [key, seen]);
  return state?.key === key ? state.happened : undefined;
}
