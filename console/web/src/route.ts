// Where the page is: a screen, one thing of it, and what the lists are narrowed to. It
// stands after the #, so that any id may be in it, any prefix before it, and no server
// or proxy writes down what somebody looked for.
import { signal } from "@preact/signals";

export type Screen = "overview" | "tasks" | "workers" | "jobs" | "schedules" | "programs" | "functions" | "pools" | "events" | "plan";

const SCREENS: readonly string[] = ["overview", "tasks", "workers", "jobs", "schedules", "programs", "functions", "pools", "events", "plan"];

export interface Route {
  screen: Screen;
  id: string; // empty: the list
  query: URLSearchParams;
}

function parse(hash: string): Route {
  const [where = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [screen = "", id = ""] = where.split("/", 2);
  let name = "";
  try {
    name = decodeURIComponent(id);
  } catch {
    // An address that somebody wrote by hand: the list is there.
  }
  return {
    screen: (SCREENS.includes(screen) ? screen : "overview") as Screen,
    id: name,
    query: new URLSearchParams(query),
  };
}

export const route = signal<Route>(parse(location.hash));

addEventListener("hashchange", () => (route.value = parse(location.hash)));

export function href(screen: Screen, id = "", query: URLSearchParams | Record<string, string> = {}): string {
  const params = new URLSearchParams(query);
  for (const [key, value] of [...params]) if (value === "") params.delete(key);
  const text = params.toString();
  return `#/${screen}${id ? `/${encodeURIComponent(id)}` : ""}${text ? `?${text}` : ""}`;
}

export function go(address: string): void {
  location.hash = address;
}

// narrow changes what the list is narrowed to, in place: the way back does not lead
// through each letter.
export function narrow(change: Record<string, string>): void {
  const { screen, id, query } = route.value;
  const next = new URLSearchParams(query);
  for (const [key, value] of Object.entries(change)) {
    if (value) next.set(key, value);
    else next.delete(key);
  }
  history.replaceState(null, "", href(screen, id, next));
  route.value = parse(location.hash);
}
