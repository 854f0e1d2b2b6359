// Painter draws the wells of all columns on one canvas: cells, the mean, and moves as
// they happen.
import type { Task, Worker } from "../api/types";
import type { Shift } from "../api/tasks";
import { load } from "../format";
import { strips, type Box } from "./layout";
import { hue, inks } from "./colour";

const FLIGHT = 200; // ms
const GLOW = 2500; // ms that what has moved keeps an outline
const MOST = 400; // flights at once; of more, those that are too many appear in place

export interface Cell {
  id: string; // of the instance
  task: string;
  index: number;
  group: string;
  state: string;
  weight: number;
  worker: string;
}

interface Placed extends Cell, Box {}

interface Flight {
  from: Box;
  to: string;
  began: number;
}

export class Painter {
  private cells = new Map<string, Placed>();
  private byWorker = new Map<string, Cell[]>();
  private workers: Worker[] = [];
  private wells = new Map<string, Box>();
  private flights: Flight[] = [];
  private glows = new Map<string, number>();
  private frame = 0;
  private readonly still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly box: HTMLElement,
  ) {}

  // set takes what there is to draw: the tasks, or nothing if only loads are.
  set(workers: Worker[], tasks: ReadonlyMap<string, Task> | undefined): void {
    this.workers = workers;
    this.byWorker = new Map(workers.map((w) => [w.name, []]));
    for (const t of tasks?.values() ?? []) {
      for (const i of t.instances) {
        this.byWorker.get(i.worker)?.push({
          id: `${t.id}#${i.index}`, task: t.id, index: i.index, group: t.group || t.id,
          state: i.state, weight: t.weight, worker: i.worker,
        });
      }
    }
    for (const list of this.byWorker.values()) {
      list.sort((a, b) => hue(a.group) - hue(b.group) || (a.group < b.group ? -1 : a.group > b.group ? 1 : b.weight - a.weight || (a.id < b.id ? -1 : 1)));
    }
    this.place();
  }

  // shift draws moves: from where the cells were to where they will be placed.
  shift(shifts: Shift[]): void {
    const at = performance.now();
    for (const s of shifts) {
      const id = `${s.task}#${s.index}`;
      const old = this.cells.get(id);
      this.glows.set(id, at);
      if (this.still.matches || !s.from || !old || this.flights.length >= MOST) continue;
      this.flights.push({ from: { x: old.x, y: old.y, w: old.w, h: old.h }, to: id, began: at });
    }
    this.draw();
  }

  // place measures the wells and lays the cells out anew.
  place(): void {
    const origin = this.box.getBoundingClientRect();
    this.wells.clear();
    for (const well of this.box.querySelectorAll<HTMLElement>("[data-well]")) {
      const r = well.getBoundingClientRect();
      this.wells.set(well.dataset.well ?? "", { x: r.left - origin.left, y: r.top - origin.top, w: r.width, h: r.height });
    }
    const most = this.workers.reduce((m, w) => Math.max(m, load(w)), 0) * 1.04 || 1;
    this.cells.clear();
    for (const w of this.workers) {
      const well = this.wells.get(w.name);
      if (!well) continue;
      const list = this.byWorker.get(w.name) ?? [];
      const height = (well.h * load(w)) / most;
      // What weighs next to nothing still has to be seen.
      const floor = list.reduce((sum, c) => sum + c.weight, 0) / (list.length || 1) / 50 || 1;
      const boxes = strips(list.map((c) => c.weight + floor), well.w, height);
      list.forEach((c, i) => {
        const b = boxes[i];
        if (b) this.cells.set(c.id, { ...c, x: well.x + b.x, y: well.y + well.h - height + b.y, w: b.w, h: b.h });
      });
    }
    this.draw();
  }

  // at is the cell under a point of the box.
  at(x: number, y: number): Cell | undefined {
    for (const c of this.cells.values()) {
      if (x >= c.x && x < c.x + c.w && y >= c.y && y < c.y + c.h) return c;
    }
    return undefined;
  }

  draw(): void {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame((t) => this.paint(t));
  }

  close(): void {
    cancelAnimationFrame(this.frame);
  }

  private paint(at: number): void {
    const scale = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.box;
    const canvas = this.canvas;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const g = canvas.getContext("2d");
    if (!g) return;
    const ink = inks(canvas);
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, width, height);
    const lost = new Set(this.workers.filter((w) => w.state === "lost" || w.state === "away").map((w) => w.name));
    this.flights = this.flights.filter((f) => at - f.began < FLIGHT);
    const flying = new Set(this.flights.map((f) => f.to));
    const loads = this.workers.map(load);
    const most = Math.max(0, ...loads) * 1.04 || 1;
    for (const w of this.workers) {
      const well = this.wells.get(w.name);
      if (!well || this.byWorker.get(w.name)?.length) continue;
      const h = (well.h * load(w)) / most;
      g.fillStyle = lost.has(w.name) ? ink.gone : ink.rest;
      g.fillRect(well.x, well.y + well.h - h, well.w, h);
    }
    for (const c of this.cells.values()) {
      if (flying.has(c.id)) continue;
      g.globalAlpha = c.state === "running" || lost.has(c.worker) ? 1 : ink.coming;
      g.fillStyle = lost.has(c.worker) ? ink.gone : c.state === "failing" || c.state === "stuck" ? ink.bad : ink.cell(c.group);
      fill(g, c);
    }
    g.globalAlpha = 1;
    for (const f of this.flights) {
      const to = this.cells.get(f.to);
      if (!to) continue;
      const t = ease(Math.max(0, (at - f.began) / FLIGHT));
      g.fillStyle = ink.cell(to.group);
      fill(g, { x: mix(f.from.x, to.x, t), y: mix(f.from.y, to.y, t), w: mix(f.from.w, to.w, t), h: mix(f.from.h, to.h, t) });
    }
    g.strokeStyle = ink.accent;
    g.lineWidth = 1;
    for (const [id, began] of this.glows) {
      const c = this.cells.get(id);
      if (at - began > GLOW || !c) this.glows.delete(id);
      else if (!flying.has(id) && c.w > 2 && c.h > 2) g.strokeRect(c.x + 0.5, c.y + 0.5, c.w - 1, c.h - 1);
    }
    this.mean(g, ink.mean, most);
    if (this.flights.length) this.draw();
    else if (this.glows.size) setTimeout(() => this.draw(), 300);
  }

  // mean draws the mean of those that are to stay as one line through all wells.
  private mean(g: CanvasRenderingContext2D, colour: string, most: number): void {
    const stay = this.workers.filter((w) => w.state === "ready" || w.state === "cordoned");
    if (stay.length < 2) return;
    const mean = stay.reduce((sum, w) => sum + w.weight, 0) / stay.reduce((sum, w) => sum + (w.strength || 1), 0);
    g.strokeStyle = colour;
    g.setLineDash([2, 3]);
    for (const well of this.wells.values()) {
      const y = Math.round(well.y + well.h - (well.h * mean) / most) + 0.5;
      g.beginPath();
      g.moveTo(well.x - 3, y);
      g.lineTo(well.x + well.w + 3, y);
      g.stroke();
    }
    g.setLineDash([]);
  }
}

const mix = (a: number, b: number, t: number): number => a + (b - a) * t;
const ease = (t: number): number => 1 - (1 - t) ** 3;

// fill leaves a gap between cells that are large enough for one.
function fill(g: CanvasRenderingContext2D, b: Box): void {
  const gap = Math.min(1, b.w / 6, b.h / 6);
  g.fillRect(b.x, b.y, Math.max(0.4, b.w - gap), Math.max(0.4, b.h - gap));
}
