// Answers as state of a component: asked for again and again while they are looked at.
import { useEffect, useState } from "preact/hooks";
import { get } from "./http";
import { link, pause, visible } from "./live";

export interface Answer<T> {
  data?: T;
  error?: Error;
  again: () => void;
}

// usePoll asks for address every ms. An answer stays until the next one is there; that
// of another thing goes at once. What is asked for is the address, unless thing names it:
// then another address is another question about the same.
export function usePoll<T>(address: string | undefined, ms = 2000, thing = address ?? ""): Answer<T> {
  const [{ data, error, of }, set] = useState<{ data?: T; error?: Error; of: string }>({ of: thing });
  const [turn, again] = useState(0);
  const seen = visible.value;
  const back = link.value === "live"; // asks at once when the connection is back
  useEffect(() => {
    if (address === undefined || !seen) return;
    const stop = new AbortController();
    void (async () => {
      while (!stop.signal.aborted) {
        try {
          const data = await get<T>(address, stop.signal);
          if (stop.signal.aborted) return;
          set({ data, of: thing });
        } catch (err) {
          if (stop.signal.aborted) return;
          const error = err instanceof Error ? err : new Error(String(err));
          set((old) => (old.of === thing ? { ...old, error } : { error, of: thing }));
        }
        await pause(ms, stop.signal);
      }
    })();
    return () => stop.abort();
  }, [address, thing, ms, seen, back, turn]);
  return { ...(of === thing && { ...(data && { data }), ...(error && { error }) }), again: () => again((n) => n + 1) };
}
