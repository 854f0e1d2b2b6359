import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";

// useFocus puts the focus on what the reference is of, once, when it appears.
export function useFocus<T extends HTMLElement>(): RefObject<T | null> {
  const ref = useRef<T>(null);
  useEffect(() => ref.current?.focus(), []);
  return ref;
}
