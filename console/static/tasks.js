// The list of tasks. Only the rows that can be seen exist, so that hundreds of
// thousands cost no more than a screenful.
import { call } from "./api.js";
import { $, age, el, number, state } from "./dom.js";

const ROW = 32; // px, as in the style sheet
const MAX_HEIGHT = 15_000_000; // what browsers let an element be

export class Tasks {
  constructor(items) {
    this.items = items;
    this.found = [];
    this.box = $("tasks");
    this.space = this.box.querySelector(".space");
    this.pool = [];
    this.open = undefined;
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.box);
    for (const id of ["search", "state"]) $(id).addEventListener("input", () => this.refresh());
    this.box.addEventListener("click", (e) => {
      const id = e.target.closest("[data-id]")?.dataset.id;
      if (id !== undefined) this.show(id);
    });
    this.box.addEventListener("keydown", (e) => this.key(e));
    $("d-close").addEventListener("click", () => this.close());
    document.addEventListener("keydown", (e) => e.key === "Escape" && this.close());
  }

  // refresh searches anew: one row an instance.
  refresh() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = $("state").value;
    const found = [];
    for (const t of this.items.values()) {
      for (const i of t.instances) {
        if (wanted && i.state !== wanted) continue;
        if (words.length) {
          const text = `${t.id} ${t.group} ${i.worker} ${t.kind}`.toLowerCase();
          if (!words.every((w) => text.includes(w))) continue;
        }
        found.push([t, i]);
      }
    }
    found.sort(([a, i], [b, j]) => (a.id < b.id ? -1 : a.id > b.id ? 1 : i.index - j.index));
    this.found = found;
    $("task-count").textContent = `${number(found.length)} of ${number(this.items.size)}`;
    this.draw();
    this.follow();
  }

  draw() {
    const full = this.found.length * ROW;
    const height = Math.min(full, MAX_HEIGHT);
    this.space.style.height = `${height}px`;
    // Beyond the greatest height an element can have, scrolling is in proportion.
    const view = this.box.clientHeight;
    const top = Math.min(this.box.scrollTop, Math.max(0, height - view));
    const offset = full > height ? (top / (height - view)) * (full - view) : top;
    const first = Math.max(0, Math.floor(offset / ROW) - 2);
    const count = Math.max(0, Math.min(this.found.length - first, Math.ceil(view / ROW) + 5));
    while (this.pool.length < count) this.pool.push(this.row());
    this.pool.forEach((row, n) => {
      row.hidden = n >= count;
      if (n >= count) return;
      const [t, i] = this.found[first + n];
      row.style.top = `${top + (first + n) * ROW - offset}px`;
      this.fill(row, t, i);
    });
  }

  row() {
    const row = el("div", { class: "rows", role: "option" }, ...Array.from({ length: 6 }, () => el("span")));
    row.children[3].className = row.children[4].className = "num";
    this.box.append(row);
    return row;
  }

  fill(row, t, i) {
    const c = row.children;
    row.dataset.id = t.id;
    row.setAttribute("aria-selected", t.id === this.open);
    c[0].textContent = i.index ? `${t.id}#${i.index}` : t.id;
    c[1].textContent = i.worker || "–";
    if (c[2].dataset.state !== i.state) {
      c[2].dataset.state = i.state;
      c[2].replaceChildren(state(i.state));
    }
    c[3].textContent = number(t.weight);
    c[4].textContent = i.generation || "–";
    c[5].textContent = age(i.since);
  }

  key(e) {
    if (e.key !== "Enter" && e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
    e.preventDefault();
    const at = this.found.findIndex(([t]) => t.id === this.open);
    const next = Math.max(0, Math.min(this.found.length - 1, at + (e.key === "ArrowUp" ? -1 : e.key === "ArrowDown" ? 1 : 0)));
    if (this.found.length) this.show(this.found[Math.max(0, next)][0].id);
  }

  // follow keeps what is open as it is: asks again once the task has changed.
  follow() {
    if (this.open === undefined) return;
    const task = this.items.get(this.open);
    if (!task) this.close();
    else if (task !== this.shown) this.show(this.open);
  }

  // show opens the task beside the list: what it is, where, and why there.
  async show(id) {
    if (this.open !== id) {
      $("d-title").textContent = id;
      $("d-body").replaceChildren(el("p", { class: "muted" }, "asking"));
      $("detail").hidden = false;
    }
    this.open = id;
    this.shown = this.items.get(id);
    this.draw();
    const path = `/v1/tasks/${encodeURIComponent(id)}`;
    try {
      const [detail, why] = await Promise.all([call("GET", path), call("GET", `${path}/why`)]);
      if (this.open === id) $("d-body").replaceChildren(...describe(detail, why));
    } catch (err) {
      if (this.open === id) $("d-body").replaceChildren(el("p", { class: "note" }, err.message));
    }
  }

  close() {
    this.open = undefined;
    $("detail").hidden = true;
    this.draw();
  }
}

function describe(detail, why) {
  const t = detail.task;
  const parts = [facts([
    ["group", t.group], ["key", t.key], ["kind", t.kind], ["weight", number(t.weight)], ["priority", t.priority || ""],
    ["mode", t.mode], ["replicas", t.replicas], ["source", detail.source], ["payload", t.payload],
    ["require", t.require.join(", ")], ["gang", t.gang], ["pinned", t.pinned],
  ])];
  for (const w of why.instances) {
    const i = w.instance;
    parts.push(el("h3", {}, `Instance ${i.index} `, state(i.state)));
    parts.push(facts([
      ["worker", i.worker], ["generation", i.generation || ""], ["since", i.since ? `${age(i.since)} ago` : ""],
      ["restarts", i.restarts || ""], ["error", i.error],
    ]));
    parts.push(el("ul", {}, ...w.reasons.map((r) => el("li", {}, r))));
    if (w.workers.length) {
      parts.push(el("table", {},
        el("thead", {}, el("tr", {}, el("th", {}, "Worker"), el("th", {}, "Fits"), el("th", {}, "Why"))),
        el("tbody", {}, ...w.workers.map((x) => el("tr", {}, el("td", {}, x.worker), el("td", {}, x.fits ? "yes" : "no"), el("td", {}, x.reason))))));
    }
  }
  return parts;
}

function facts(pairs) {
  return el("dl", {}, ...pairs.filter(([, v]) => v !== "" && v !== undefined).flatMap(([k, v]) => [el("dt", {}, k), el("dd", {}, `${v}`)]));
}
