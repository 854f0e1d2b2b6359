// The rail: every screen, and beside the word how much of it needs somebody.
import { useEffect, useRef } from "preact/hooks";
import { status, workers } from "../api/live";
import { count } from "../format";
import { href, route, type Screen } from "../route";
import { Icon, type IconName } from "./icons";

export interface Place {
  screen: Screen;
  word: string;
  icon: IconName;
  key: string; // after g
  also?: Screen; // that is reached from this one
}

export const places: Place[] = [
  { screen: "overview", word: "Overview", icon: "overview", key: "o" },
  { screen: "tasks", word: "Tasks", icon: "tasks", key: "t" },
  { screen: "workers", word: "Workers", icon: "workers", key: "w" },
  { screen: "jobs", word: "Jobs", icon: "jobs", key: "j", also: "schedules" },
  { screen: "programs", word: "Programs", icon: "programs", key: "p" },
  { screen: "functions", word: "Functions", icon: "functions", key: "f" },
  { screen: "pools", word: "Pools", icon: "pools", key: "s" },
  { screen: "events", word: "Events", icon: "events", key: "e" },
  { screen: "plan", word: "Plan", icon: "plan", key: "l" },
];

// placeOf is where the rail shows that a screen is.
export const placeOf = (screen: Screen): Place | undefined => places.find((p) => p.screen === screen || p.also === screen);

// ill is how many things of a screen need somebody.
function ill(screen: Screen): number {
  const s = status.value;
  switch (screen) {
    case "tasks":
      return (s?.tasks?.failing ?? 0) + (s?.suspects ?? []).filter((x) => x.state === "held").length;
    case "workers":
      return [...workers.value.values()].filter((w) => w.state === "lost").length;
    default:
      return 0;
  }
}

export function Rail() {
  const rail = useRef<HTMLElement>(null);
  const { screen } = route.value;
  // On a phone the rail is wider than the page: it is moved to where one is, at first and
  // when the page turns, and otherwise left where somebody has moved it.
  useEffect(() => {
    const show = () => rail.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
    show();
    addEventListener("resize", show);
    return () => removeEventListener("resize", show);
  }, [screen]);
  return (
    <nav class="rail" aria-label="Screens" ref={rail}>
      <a class="brand" href={href("overview")} aria-label="rota, overview" tabIndex={-1}>
        <img src="./icon.svg" alt="" width="24" height="24" />
        <span>rota</span>
      </a>
      <ul>
        {places.map((p) => {
          const n = ill(p.screen);
          return (
            <li key={p.screen}>
              <a href={href(p.screen)} aria-current={p === placeOf(screen) ? "page" : undefined} title={`${p.word} (g ${p.key})`}>
                <Icon name={p.icon} />
                <span class="word">{p.word}</span>
                {n > 0 && (
                  <span class="ill" aria-label={`${n} need attention`}>
                    {count(n)}
                  </span>
                )}
              </a>
            </li>
          );
        })}
      </ul>
    </nav>
  );
}
