// The frame: the rail, the bar, what the connection is like, and the screen.
import { useEffect, useState } from "preact/hooks";
import { wanted } from "./api/http";
import { link } from "./api/live";
import { go, route } from "./route";
import { Bar } from "./ui/bar";
import { Palette } from "./ui/palette";
import { Keys } from "./ui/keys";
import { Lost } from "./ui/lost";
import { Rail, placeOf, places } from "./ui/rail";
import { SignIn } from "./ui/signin";
import { Overview } from "./screens/overview";
import { Tasks } from "./screens/tasks";
import { Workers } from "./screens/workers";
import { Jobs } from "./screens/jobs";
import { Schedules } from "./screens/schedules";
import { Events } from "./screens/events";
import { Programs } from "./screens/programs";
import { Functions } from "./screens/functions";
import { Pools } from "./screens/pools";
import { Plan } from "./screens/plan";

const SCREENS = { overview: Overview, tasks: Tasks, workers: Workers, jobs: Jobs, schedules: Schedules, programs: Programs, functions: Functions, pools: Pools, events: Events, plan: Plan };

const typing = (e: KeyboardEvent): boolean =>
  e.target instanceof HTMLElement && (e.target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName));

export function App() {
  const [open, setOpen] = useState<"" | "palette" | "keys">("");
  const { screen, id } = route.value;
  useEffect(() => {
    let after = ""; // g, then the letter of a screen
    const press = (e: KeyboardEvent) => {
      if ((e.ctrlKey || e.metaKey) && e.key === "k") {
        e.preventDefault();
        setOpen("palette");
        return;
      }
      if (e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]")) return;
      if (e.key === "Escape") {
        const back = document.querySelector<HTMLAnchorElement>("[data-back]");
        if (typing(e)) (e.target as HTMLElement).blur();
        else if (back) go(back.hash);
        return;
      }
      if (typing(e)) return;
      const place = places.find((p) => p.key === e.key);
      if (after === "g" && place) go(`#/${place.screen}`);
      else if (e.key === "/") setOpen("palette");
      else if (e.key === "?") setOpen("keys");
      else {
        after = e.key;
        return;
      }
      after = "";
      e.preventDefault();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  useEffect(() => {
    const place = placeOf(screen);
    if (sessionStorage.getItem("rota-return")) {
      // Back from the issuer: where somebody was before.
      const back = sessionStorage.getItem("rota-return") ?? "";
      sessionStorage.removeItem("rota-return");
      if (back && !location.hash) go(back);
    }
    document.title = `${id ? `${id} · ` : ""}${place?.word ?? ""} · rota`;
  }, [screen, id]);
  if (wanted.value) return <SignIn why={wanted.value} />;
  const Screen = SCREENS[screen];
  return (
    <div class={`frame ${link.value}`} data-link={link.value}>
      <a class="skip" href="#main" onClick={(e) => (e.preventDefault(), document.getElementById("main")?.focus())}>
        Skip to the content
      </a>
      <Rail />
      <Bar onSearch={() => setOpen("palette")} />
      <main id="main" tabIndex={-1}>
        <Lost />
        <div class="picture">
          <Screen />
        </div>
      </main>
      {open === "palette" && <Palette onClose={() => setOpen("")} />}
      {open === "keys" && <Keys onClose={() => setOpen("")} />}
    </div>
  );
}
