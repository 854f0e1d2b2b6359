// The plan view: what would move, if.
import { call } from "./api.js";
import { $, el, note, number } from "./dom.js";

export class Plan {
  constructor(workers) {
    this.workers = workers;
    this.names = "";
    $("plan-form").addEventListener("submit", (e) => {
      e.preventDefault();
      this.ask();
    });
    $("plan-notify").addEventListener("click", async () => {
      try {
        await call("POST", "/v1/schedule:notify", { reason: "console" });
        $("plan-summary").textContent = "Asked for a pass.";
        note();
      } catch (err) {
        note(err.message);
      }
    });
  }

  // render offers the workers to leave out; the choice stays as workers change.
  render() {
    const names = [...this.workers.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    if (this.names === names.join("\n")) return;
    this.names = names.join("\n");
    const chosen = new Set(this.without());
    $("plan-without").replaceChildren(...names.map((name) =>
      el("label", {}, el("input", { type: "checkbox", value: name, ...(chosen.has(name) ? { checked: "" } : {}) }), ` ${name}`)));
  }

  without() {
    return [...$("plan-without").querySelectorAll("input:checked")].map((i) => i.value);
  }

  async ask() {
    const summary = $("plan-summary");
    summary.textContent = "planning";
    try {
      const plan = await call("POST", "/v1/plan", { without: this.without(), with: Number($("plan-with").value) || 0 });
      this.show(plan);
      note();
    } catch (err) {
      summary.textContent = "";
      note(err.message);
    }
  }

  show(plan) {
    const s = plan.summary;
    const more = s.moves - plan.moves.length;
    $("plan-summary").textContent = s.moves === 0 && plan.waiting.length === 0
      ? "Nothing would move."
      : `${number(s.moves)} moves: ${number(s.forced)} forced, ${number(s.chosen)} chosen; ${number(s.waiting)} would wait. ` +
        `Imbalance ${s.imbalance_before.toFixed(3)}, then ${s.imbalance_after.toFixed(3)}.` +
        (more > 0 ? ` The first ${number(plan.moves.length)} are shown.` : "");
    const name = (m) => (m.index ? `${m.task}#${m.index}` : m.task);
    $("plan").tBodies[0].replaceChildren(
      ...plan.waiting.map((w) => el("tr", {}, el("td", {}, name(w)), el("td", {}, "–"), el("td", {}, "waits"), el("td", { class: "wrap" }, w.reason))),
      ...plan.moves.map((m) => el("tr", {}, el("td", {}, name(m)), el("td", {}, m.from || "–"), el("td", {}, m.to || "–"), el("td", { class: "wrap" }, m.reason))));
  }
}
