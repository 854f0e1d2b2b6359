// The map: workers by zone, as columns while they are few, as tiles with their names when
// they are many, as squares when they are hundreds, as a heat map when they are thousands.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { workers } from "../api/live";
import { COLUMNS, few, onShifts, tasks } from "../api/tasks";
import type { Worker } from "../api/types";
import { byName, count, instance, load, number, plural } from "../format";
import { go, href } from "../route";
import { theme } from "../theme";
import { State } from "../ui/state";
import { Painter, type Cell } from "./painter";
import { Fields } from "./field";

const NAMED = 300; // workers that are drawn as tiles with their names
const LEVELS = 2000; // and as squares that are filled as high as the load

type Zone = [name: string, workers: Worker[]];

export function zones(all: Iterable<Worker>): Zone[] {
  const found = new Map<string, Worker[]>();
  for (const w of all) {
    const list = found.get(w.zone);
    if (list) list.push(w);
    else found.set(w.zone, [w]);
  }
  for (const list of found.values()) list.sort((a, b) => byName(a.name, b.name));
  return [...found].sort(([a], [b]) => byName(a, b));
}

// said is a worker in a sentence, for who hears the page.
const said = (w: Worker): string =>
  `, ${w.state}, ${plural(w.instances, "instance")}, load ${number(load(w))}${w.zone ? `, zone ${w.zone}` : ""}`;

export function Map_() {
  const all = workers.value;
  const grouped = useMemo(() => zones(all.values()), [all]);
  if (all.size > NAMED) return <Fields zones={grouped} small={all.size > LEVELS} />;
  if (all.size > COLUMNS) return <Tiles zones={grouped} />;
  return <Columns zones={grouped} />;
}

function ZoneName({ name, only }: { name: string; only: boolean }) {
  return only && !name ? null : <h3 class="zone-name">{name ? `Zone ${name}` : "No zone"}</h3>;
}

function Columns({ zones }: { zones: Zone[] }) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const painter = useRef<Painter>(undefined);
  const [tip, setTip] = useState<{ cell: Cell; x: number; y: number }>();
  const list = zones.flatMap(([, w]) => w);
  const known = tasks.value;

  useLayoutEffect(() => {
    if (!box.current || !canvas.current) return;
    const p = new Painter(canvas.current, box.current);
    painter.current = p;
    const size = new ResizeObserver(() => p.place());
    size.observe(box.current);
    const off = onShifts((s) => p.shift(s));
    return () => (off(), size.disconnect(), p.close());
  }, []);
  useLayoutEffect(() => painter.current?.set(list, known?.all), [zones, known]);
  useEffect(() => painter.current?.draw(), [theme.value]);

  const find = (e: PointerEvent | MouseEvent): [Cell | undefined, number, number] => {
    const r = box.current!.getBoundingClientRect();
    const [x, y] = [e.clientX - r.left, e.clientY - r.top];
    return [painter.current?.at(x, y), x, y];
  };
  return (
    <div
      class="map columns"
      ref={box}
      onPointerMove={(e) => {
        const [cell, x, y] = find(e);
        setTip(cell && e.pointerType === "mouse" ? { cell, x, y } : undefined);
      }}
      onPointerLeave={() => setTip(undefined)}
    >
      <canvas ref={canvas} aria-hidden="true" />
      {zones.map(([name, ws]) => (
        <section key={name} class="zone" style={{ "--columns": ws.length }} aria-label={name ? `Zone ${name}` : "Workers"}>
          <ZoneName name={name} only={zones.length === 1} />
          <ul class="wells">
            {ws.map((w) => (
              <li key={w.name} class={`column ${w.state}`}>
                <a href={href("workers", w.name)}>
                  <span class="id">{w.name}</span>
                  {w.state === "ready" ? <span class="quiet">{count(w.instances)}</span> : <State state={w.state} />}
                  <span class="hidden">{w.state === "ready" ? ` instances, load ${number(load(w))}` : `, ${plural(w.instances, "instance")}, load ${number(load(w))}`}</span>
                </a>
                <div
                  class="well"
                  data-well={w.name}
                  onClick={(e) => {
                    const [cell] = find(e);
                    go(cell ? href("tasks", cell.task) : href("workers", w.name));
                  }}
                />
              </li>
            ))}
          </ul>
        </section>
      ))}
      {tip && <Tip {...tip} width={box.current?.clientWidth ?? 0} />}
    </div>
  );
}

function Tip({ cell, x, y, width }: { cell: Cell; x: number; y: number; width: number }) {
  const right = x > width - 240;
  return (
    <div class="tip" aria-hidden="true" style={{ top: `${y + 14}px`, ...(right ? { right: `${width - x + 8}px` } : { left: `${x + 12}px` }) }}>
      <strong class="id">{instance(cell.task, cell.index)}</strong>
      <span>
        <State state={cell.state} /> on {cell.worker}
      </span>
      <span class="quiet">
        group {cell.group}, weight {number(cell.weight)}
      </span>
    </div>
  );
}

function Tiles({ zones }: { zones: Zone[] }) {
  const most = zones.reduce((m, [, ws]) => ws.reduce((n, w) => Math.max(n, load(w)), m), 0) || 1;
  return (
    <div class="map">
      {zones.map(([name, ws]) => (
        <section key={name} class="zone tiles" aria-label={name ? `Zone ${name}` : "Workers"}>
          <ZoneName name={name} only={zones.length === 1} />
          <ul>
            {ws.map((w) => (
              <Tile key={w.name} w={w} most={most} />
            ))}
          </ul>
        </section>
      ))}
    </div>
  );
}

// Tile is drawn anew only if something of it has changed: few do at a time.
function Tile({ w, most }: { w: Worker; most: number }) {
  const level = ((100 * load(w)) / most).toFixed(1);
  const text = `${w.name}${said(w)}`;
  return useMemo(
    () => (
      <li>
        <a class={`tile ${w.state}`} href={href("workers", w.name)} title={text} aria-label={text}>
          <span class="level" style={{ height: `${level}%` }} />
          <span class="id">{w.name}</span>
        </a>
      </li>
    ),
    [w.state, level, text],
  );
}

// Legend says what the map draws.
export function Legend() {
  const n = workers.value.size;
  if (n > LEVELS) return <>A square a worker, the darker the fuller.</>;
  if (n > NAMED) return <>A square a worker, filled as high as its load against the fullest.</>;
  if (n > COLUMNS) return <>A tile a worker, filled as high as its load against the fullest.</>;
  if (few.value && tasks.value) return <>A column a worker, as high as its load; a cell an instance, as large as its weight, coloured by group. Dashed: the mean.</>;
  return <>A column a worker, as high as its load. Dashed: the mean.</>;
}
