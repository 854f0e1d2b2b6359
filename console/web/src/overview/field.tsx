// Field is a part of the map with hundreds or thousands of workers: a square each, drawn
// as pixels, since as many elements would take a second to lay out.
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Worker } from "../api/types";
import { load, number, plural } from "../format";
import { go, href } from "../route";
import { theme } from "../theme";
import { State } from "../ui/state";

// Squares are filled as high as the load, or, where that would be too small to see, the
// darker the fuller.
const LARGE = 16; // px of a square, with its gap
const SMALL = 12;
const GAP = 2;

export const isBad = (w: Worker): boolean => w.state === "lost" || w.state === "away";

export function Fields({ zones, small }: { zones: [string, Worker[]][]; small: boolean }) {
  const most = zones.reduce((m, [, ws]) => ws.reduce((n, w) => Math.max(n, load(w)), m), 0) || 1;
  return (
    <div class="map">
      {zones.map(([name, ws]) => (
        <section key={name} class="zone" aria-label={name ? `Zone ${name}` : "Workers"}>
          <Field title={name ? `Zone ${name}` : zones.length > 1 ? "No zone" : ""} workers={ws} most={most} side={small ? SMALL : LARGE} />
        </section>
      ))}
    </div>
  );
}

function Field({ title, workers, most, side }: { title: string; workers: Worker[]; most: number; side: number }) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [over, setOver] = useState("");
  const across = Math.max(1, Math.floor(width / side));
  const height = Math.ceil(workers.length / across) * side;
  const at = over ? workers.findIndex((w) => w.name === over) : -1;
  const chosen = workers[at];
  const bad = workers.reduce((n, w) => n + Number(isBad(w)), 0);
  useLayoutEffect(() => {
    const parent = box.current;
    if (!parent) return;
    setWidth(parent.clientWidth);
    const size = new ResizeObserver(() => setWidth(parent.clientWidth));
    size.observe(parent);
    return () => size.disconnect();
  }, []);
  useLayoutEffect(() => {
    const c = canvas.current;
    const g = c?.getContext("2d");
    if (!c || !g || !width) return;
    const scale = devicePixelRatio || 1;
    if (c.width !== width * scale || c.height !== height * scale) [c.width, c.height] = [width * scale, height * scale];
    draw(g, scale, getComputedStyle(c), workers, across, side, most);
    c.dataset.workers = String(workers.length);
    c.dataset.lost = String(bad);
  }, [workers, width, height, across, side, most, theme.value]);
  const find = (e: MouseEvent): Worker | undefined => {
    const x = Math.floor(e.offsetX / side);
    return x < across ? workers[Math.floor(e.offsetY / side) * across + x] : undefined;
  };
  const steps: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -workers.length, End: workers.length };
  return (
    <>
      <div class="zone-head">
        {title && <h3 class="zone-name">{title}</h3>}
        <p class="quiet" aria-live="polite">
          {chosen ? (
            <>
              <a class="id" href={href("workers", chosen.name)}>
                {chosen.name}
              </a>{" "}
              <State state={chosen.state} /> {plural(chosen.instances, "instance")}, load {number(load(chosen))}
            </>
          ) : (
            `${plural(workers.length, "worker")}${bad ? `, ${bad} lost` : ""}`
          )}
        </p>
      </div>
      <div class="field" ref={box} style={{ height: `${height}px` }}>
        <canvas
          ref={canvas}
          tabIndex={0}
          role="application"
          aria-roledescription="map of workers"
          aria-label={`${plural(workers.length, "worker")} by load. Arrow keys go from one to the next, Enter opens it.`}
          style={{ height: `${height}px`, width: `${width}px` }}
          onPointerMove={(e) => e.pointerType === "mouse" && setOver(find(e)?.name ?? "")}
          onPointerLeave={(e) => e.pointerType === "mouse" && setOver("")}
          onBlur={(e) => !(e.relatedTarget instanceof HTMLAnchorElement) && setOver("")}
          onClick={(e) => {
            const w = find(e);
            // A finger is wider than a square: it chooses, and the name above is what opens.
            if (w && "pointerType" in e && e.pointerType === "touch") setOver(w.name);
            else if (w) go(href("workers", w.name));
          }}
          onKeyDown={(e) => {
            const step = steps[e.key];
            if (e.key === "Enter" && chosen) go(href("workers", chosen.name));
            else if (step !== undefined) setOver(workers[at < 0 ? 0 : Math.min(workers.length - 1, Math.max(0, at + step))]?.name ?? "");
            else return;
            e.preventDefault();
          }}
        />
        {chosen && <span class="ring" style={{ left: `${(at % across) * side}px`, top: `${Math.floor(at / across) * side}px`, width: `${side - GAP}px`, height: `${side - GAP}px` }} />}
      </div>
    </>
  );
}

function draw(g: CanvasRenderingContext2D, scale: number, style: CSSStyleDeclaration, workers: Worker[], across: number, side: number, most: number): void {
  const colour = (name: string) => style.getPropertyValue(name);
  const [ground, full, warn, ill, away] = ["--sunken", "--accent", "--warn", "--bad", "--gone"].map(colour) as [string, string, string, string, string];
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.clearRect(0, 0, g.canvas.width, g.canvas.height);
  const size = side - GAP;
  workers.forEach((w, i) => {
    const [x, y] = [(i % across) * side, Math.floor(i / across) * side];
    const part = Math.min(1, load(w) / most);
    const bad = isBad(w);
    const of = bad ? ill : w.state === "ready" ? full : warn;
    if (side < LARGE) {
      g.globalAlpha = bad ? 1 : 0.12 + 0.88 * part;
      g.fillStyle = of;
      g.fillRect(x, y, size, size);
      return;
    }
    g.globalAlpha = 1;
    g.fillStyle = ground;
    g.fillRect(x, y, size, size);
    g.globalAlpha = 0.5;
    g.fillStyle = bad ? away : of;
    g.fillRect(x, y + size * (1 - part), size, size * part);
    if (w.state === "ready") return;
    // Whoever is not ready has an edge, too: colour alone does not say it.
    g.globalAlpha = 1;
    g.strokeStyle = of;
    g.lineWidth = bad ? 2 : 1;
    g.setLineDash(bad ? [] : [2, 2]);
    g.strokeRect(x + g.lineWidth / 2, y + g.lineWidth / 2, size - g.lineWidth, size - g.lineWidth);
  });
  g.globalAlpha = 1;
}
