// The table of workers: state, load beside the mean, and what can be done.
import { call } from "./api.js";
import { $, el, note, number, state } from "./dom.js";

const VERBS = {
  ready: ["cordon", "drain"],
  cordoned: ["drain", "undrain"],
  draining: ["undrain"],
  lost: [],
};

export class Workers {
  constructor(items) {
    this.items = items;
    this.rows = new Map();
    this.body = $("workers").tBodies[0];
  }

  // load is the weight that a worker bears for its strength.
  static load(w) {
    return w.weight / (w.strength || 1);
  }

  render() {
    const list = [...this.items.values()].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    const most = list.reduce((m, w) => Math.max(m, Workers.load(w)), 1e-9);
    const bearing = list.filter((w) => w.state !== "lost" && w.state !== "draining");
    const mean = bearing.reduce((sum, w) => sum + Workers.load(w), 0) / (bearing.length || 1);
    for (const [name, row] of this.rows) {
      if (!this.items.has(name)) {
        row.tr.remove();
        this.rows.delete(name);
      }
    }
    list.forEach((w, i) => {
      const row = this.rows.get(w.name) ?? this.add(w.name);
      this.fill(row, w, most, mean);
      if (this.body.children[i] !== row.tr) this.body.insertBefore(row.tr, this.body.children[i] ?? null);
    });
    $("worker-count").textContent = `${list.length}`;
  }

  add(name) {
    const row = { state: "" };
    row.cells = Array.from({ length: 8 }, () => el("td"));
    for (const i of [3, 5, 6]) row.cells[i].className = "num";
    row.cells[7].className = "actions";
    row.bar = el("span", { class: "fill" });
    row.mean = el("span", { class: "mean", title: "mean of the workers that are to stay" });
    row.weight = el("output");
    row.cells[2].append(el("div", { class: "load" }, el("span", { class: "track" }, row.bar, row.mean), row.weight));
    row.cells[0].textContent = name;
    row.tr = el("tr", {}, ...row.cells);
    this.rows.set(name, row);
    return row;
  }

  fill(row, w, most, mean) {
    const c = row.cells;
    if (row.state !== w.state) {
      row.state = w.state;
      c[1].replaceChildren(state(w.state));
      c[7].replaceChildren(...(VERBS[w.state] ?? []).map((verb) => this.button(w.name, verb)));
    }
    row.tr.title = [w.host, ...Object.entries(w.labels).map(([k, v]) => `${k}=${v}`), ...w.kinds].filter(Boolean).join("  ");
    row.bar.style.width = `${(100 * Workers.load(w)) / most}%`;
    row.mean.style.left = `${Math.min(100, (100 * mean) / most)}%`;
    row.weight.textContent = number(w.weight);
    c[3].textContent = number(w.instances);
    c[4].textContent = w.zone || "–";
    c[5].textContent = w.pid;
    c[6].textContent = w.state === "lost" ? "–" : `${(w.lease_left_ms / 1000).toFixed(1)} s`;
  }

  button(name, verb) {
    const b = el("button", { type: "button", title: `${verb} ${name}` }, verb);
    b.addEventListener("click", async () => {
      b.disabled = true;
      try {
        const w = await call("POST", `/v1/workers/${encodeURIComponent(name)}:${verb}`, {});
        this.items.set(w.name, w);
        this.render();
        note();
      } catch (err) {
        note(`${verb} ${name}: ${err.message}`);
      } finally {
        b.disabled = false;
      }
    });
    return b;
  }
}
