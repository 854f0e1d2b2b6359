// The rail: every screen, and beside the word how much of it needs somebody.
import { status, workers } from "../api/live";
import { count } from "../format";
import { href, route, type Screen } from "../route";
import { Icon, type IconName } from "./icons";

export interface Place {
  screen: Screen;
  word: string;
  icon: IconName;
  key: string; // after g
}

export const places: Place[] = [
  { screen: "overview", word: "Overview", icon: "overview", key: "o" },
  { screen: "tasks", word: "Tasks", icon: "tasks", key: "t" },
  { screen: "workers", word: "Workers", icon: "workers", key: "w" },
  { screen: "jobs", word: "Jobs", icon: "jobs", key: "j" },
  { screen: "programs", word: "Programs", icon: "programs", key: "p" },
  { screen: "functions", word: "Functions", icon: "functions", key: "f" },
  { screen: "pools", word: "Pools", icon: "pools", key: "s" },
  { screen: "events", word: "Events", icon: "events", key: "e" },
  { screen: "plan", word: "Plan", icon: "plan", key: "l" },
];

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
  return (
    <nav class="rail" aria-label="Screens">
      <a class="brand" href={href("overview")} aria-label="rota, overview" tabIndex={-1}>
        <img src="./icon.svg" alt="" width="24" height="24" />
        <span>rota</span>
      </a>
      <ul>
        {places.map((p) => {
          const n = ill(p.screen);
          return (
            <li key={p.screen}>
              <a href={href(p.screen)} aria-current={route.value.screen === p.screen ? "page" : undefined} ref={(a) => (route.value.screen === p.screen ? a?.scrollIntoView({ block: "nearest", inline: "nearest" }) : undefined)} title={`${p.word} (g ${p.key})`}>
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
