// Answers as state of a component: asked for again and again while they are looked at.
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "./http";
import { link, pause, visible } from "./live";

export interface Answer<T> {
  data?: T;
  error?: Error;
  // address is what data is the answer to.
  address?: string;
  again: () => void;
}

// usePoll asks for address every ms. An answer stays until the next one is there; that
// of another address goes at once.
export function usePoll<T>(address: string | undefined, ms = 2000): Answer<T> {
  const [answer, set] = useState<{ data?: T; error?: Error; address?: string }>({});
  const [turn, again] = useState(0);
  const seen = visible.value;
  const back = link.value === "live"; // asks at once when the connection is back
  const latest = useRef(address);
  latest.current = address;
  useEffect(() => {
    if (address === undefined || !seen) return;
    const stop = new AbortController();
    void (async () => {
      while (!stop.signal.aborted) {
        try {
          const data = await get<T>(address, stop.signal);
          if (stop.signal.aborted) return;
          set({ data, address });
        } catch (err) {
          if (stop.signal.aborted) return;
          const error = err instanceof Error ? err : new Error(String(err));
          set((old) => (old.address === address ? { ...old, error } : { error, address }));
        }
        await pause(ms, stop.signal);
      }
    })();
    return () => stop.abort();
  }, [address, ms, seen, back, turn]);
  const mine = answer.address === address ? answer : {};
  return { ...mine, again: () => again((n) => n + 1) };
}
