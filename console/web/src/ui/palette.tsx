// The palette finds any screen, worker and task, and does what can be done, by name.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, path } from "../api/http";
import { may, pause, workers } from "../api/live";
import type { ListTasks } from "../api/types";
import { byName } from "../format";
import { go, href } from "../route";
import { turn } from "../theme";
import { useFocus } from "./focus";
import { Icon, type IconName } from "./icons";
import { places } from "./rail";

interface Item {
  icon: IconName;
  text: string;
  note: string;
  run: () => void;
}

const MOST = 8; // of each kind

function commands(): Item[] {
  const list: Item[] = places.map((p) => ({ icon: p.icon, text: p.word, note: "screen", run: () => go(href(p.screen)) }));
  list.push({ icon: "auto", text: "Change the theme", note: "light, dark, automatic", run: turn });
  if (may("Jobs_RunJob")) list.push({ icon: "jobs", text: "Run a job", note: "command", run: () => go(href("jobs", "", { run: "1" })) });
  return list;
}

function aboutWorkers(words: string[]): Item[] {
  const list: Item[] = [];
  const verb = may("Workers_DrainWorker") && words.find((w) => w === "drain" || w === "cordon" || w === "undrain");
  const rest = words.filter((w) => w !== verb && w !== "plan");
  const planned = words.includes("plan");
  for (const name of [...workers.value.keys()].sort(byName)) {
    if (list.length >= MOST) break;
    if (!rest.every((w) => name.toLowerCase().includes(w))) continue;
    if (verb) list.push({ icon: "workers", text: `${verb[0]!.toUpperCase()}${verb.slice(1)} ${name}`, note: "worker", run: () => go(href("workers", name, { do: verb })) });
    else if (planned) list.push({ icon: "plan", text: `Plan without ${name}`, note: "what if", run: () => go(href("plan", "", { without: name })) });
    else if (rest.length) list.push({ icon: "workers", text: name, note: "worker", run: () => go(href("workers", name)) });
  }
  return list;
}

export function Palette({ onClose }: { onClose: () => void }) {
  const box = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const first = useFocus<HTMLInputElement>();
  const [found, setFound] = useState<{ for: string; ids: string[] }>({ for: "", ids: [] });
  useEffect(() => {
    const dialog = box.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  const wanted = text.trim();
  useEffect(() => {
    if (!wanted) return;
    const stop = new AbortController();
    void (async () => {
      await pause(120, stop.signal);
      if (stop.signal.aborted) return;
      // Ids are most often in capitals: what was typed is tried first, then that.
      for (const prefix of new Set([wanted, wanted.toUpperCase()])) {
        try {
          const list = await get<ListTasks>(path(["tasks"], { id_prefix: prefix, page_size: MOST }), stop.signal);
          if (list.tasks.length || prefix === wanted.toUpperCase()) {
            setFound({ for: wanted, ids: list.tasks.map((t) => t.id) });
            return;
          }
        } catch {
          return; // the page says by itself that there is no connection
        }
      }
    })();
    return () => stop.abort();
  }, [wanted]);
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const items: Item[] = [
    ...commands().filter((c) => words.every((w) => `${c.text} ${c.note}`.toLowerCase().includes(w))),
    ...aboutWorkers(words),
    ...(wanted ? found.ids : []).map((id): Item => ({ icon: "tasks", text: id, note: "task", run: () => go(href("tasks", id)) })),
  ];
  const chosen = Math.min(at, items.length - 1);
  const choose = (item: Item | undefined) => {
    if (!item) return;
    onClose();
    item.run();
  };
  const press = (e: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (step) {
      e.preventDefault();
      setAt((chosen + step + items.length) % Math.max(1, items.length));
    } else if (e.key === "Enter") {
      e.preventDefault();
      choose(items[chosen]);
    }
  };
  return (
    <dialog ref={box} class="palette" aria-label="Search and commands" onCancel={(e) => (e.preventDefault(), onClose())} onClick={(e) => e.target === box.current && onClose()}>
      <div class="palette-in">
        <Icon name="search" />
        <input
          type="text"
          role="combobox"
          aria-expanded="true"
          aria-controls="found"
          aria-activedescendant={items.length ? `found-${chosen}` : undefined}
          aria-label="Search tasks, workers, screens and commands"
          placeholder={may("Workers_DrainWorker") ? "A task, a worker, or drain w1" : "A task or a worker"}
          autocomplete="off"
          spellcheck={false}
          value={text}
          onInput={(e) => (setText(e.currentTarget.value), setAt(0))}
          onKeyDown={press}
          ref={first}
        />
        <button type="button" class="plain" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
      </div>
      <ul id="found" role="listbox" aria-label="Found">
        {items.map((item, i) => (
          <li
            key={`${item.note} ${item.text}`}
            id={`found-${i}`}
            role="option"
            aria-selected={i === chosen}
            onMouseMove={() => i !== chosen && setAt(i)}
            onClick={() => choose(item)}
            ref={(li) => {
              if (i === chosen) li?.scrollIntoView({ block: "nearest" });
            }}
          >
            <Icon name={item.icon} />
            <span>{item.text}</span>
            <span class="quiet">{item.note}</span>
          </li>
        ))}
      </ul>
      {items.length === 0 && <p class="quiet pad">{found.for === wanted ? `Nothing begins with ${wanted}.` : "looking"}</p>}
    </dialog>
  );
}
