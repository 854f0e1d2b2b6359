// Heat is the map of thousands of workers: a square each, the darker the fuller.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Worker } from "../api/types";
import { load, number } from "../format";
import { go, href } from "../route";
import { theme } from "../theme";

const SIDE = 12; // px of a square, with its gap

export function Heat({ zones }: { zones: [string, Worker[]][] }) {
  const most = zones.reduce((m, [, ws]) => ws.reduce((n, w) => Math.max(n, load(w)), m), 0) || 1;
  return (
    <div class="map">
      {zones.map(([name, ws]) => (
        <section key={name} class="zone" aria-label={name ? `Zone ${name}` : "Workers"}>
          <h3 class="zone-name">
            {name ? `Zone ${name}` : "No zone"} <span class="quiet">{ws.length} workers</span>
          </h3>
          <Field workers={ws} most={most} />
        </section>
      ))}
    </div>
  );
}

function Field({ workers, most }: { workers: Worker[]; most: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  const [over, setOver] = useState<Worker>();
  const across = Math.max(1, Math.floor(width / SIDE));
  const height = Math.ceil(workers.length / across) * SIDE;
  useEffect(() => {
    const parent = canvas.current?.parentElement;
    if (!parent) return;
    const size = new ResizeObserver(() => setWidth(parent.clientWidth));
    size.observe(parent);
    return () => size.disconnect();
  }, []);
  useEffect(() => {
    const c = canvas.current;
    const g = c?.getContext("2d");
    if (!c || !g || !width) return;
    const scale = devicePixelRatio || 1;
    c.width = width * scale;
    c.height = height * scale;
    const style = getComputedStyle(c);
    g.scale(scale, scale);
    workers.forEach((w, i) => {
      const [x, y] = [(i % across) * SIDE, Math.floor(i / across) * SIDE];
      const bad = w.state === "lost";
      g.globalAlpha = bad ? 1 : 0.12 + (0.88 * load(w)) / most;
      g.fillStyle = style.getPropertyValue(bad ? "--bad" : w.state === "ready" ? "--accent" : "--warn");
      g.fillRect(x, y, SIDE - 2, SIDE - 2);
    });
  }, [workers, width, height, across, most, theme.value]);
  const find = (e: MouseEvent): Worker | undefined => {
    const x = Math.floor(e.offsetX / SIDE);
    return x < across ? workers[Math.floor(e.offsetY / SIDE) * across + x] : undefined;
  };
  return (
    <div class="field">
      <canvas
        ref={canvas}
        role="img"
        aria-label={`${workers.length} workers by load; the list of workers has each`}
        style={{ height: `${height}px`, width: `${width}px` }}
        onMouseMove={(e) => setOver(find(e))}
        onMouseLeave={() => setOver(undefined)}
        onClick={(e) => {
          const w = find(e);
          if (w) go(href("workers", w.name));
        }}
      />
      <p class="quiet" aria-hidden="true">
        {over ? `${over.name}, ${over.state}, load ${number(load(over))}` : " "}
      </p>
    </div>
  );
}
