// The console: two watches keep what is known equal to what is, the views show it.
import { call, useToken, watch } from "./api.js";
import { $, later, number } from "./dom.js";
import { Plan } from "./plan.js";
import { Tasks } from "./tasks.js";
import { Workers } from "./workers.js";

const workers = new Map();
const tasks = new Map();
const workerView = new Workers(workers);
const taskView = new Tasks(tasks);
const planView = new Plan(workers);

const links = { workers: "", tasks: "", status: "" };
function link(which, how) {
  links[which] = how;
  const all = Object.values(links);
  const now = all.includes("dead") ? "dead" : all.every((l) => l === "live") ? "live" : "";
  $("link").className = `link ${now}`;
  $("link").textContent = { live: "live", dead: "no connection", "": "connecting" }[now];
}

const drawWorkers = later(() => {
  workerView.render();
  planView.render();
}, 60);
const drawTasks = later(() => taskView.refresh(), 120);

async function status() {
  try {
    const s = await call("GET", "/v1/status");
    const leader = s.leader || "no leader";
    $("leader").textContent = `${leader}, epoch ${s.epoch}, ${s.schedulers.length} scheduler${s.schedulers.length === 1 ? "" : "s"}${s.version ? `, ${s.version}` : ""}`;
    $("t-ready").textContent = number(s.workers.ready);
    $("t-workers").textContent = `${number(s.workers.draining)} draining, ${number(s.workers.lost)} lost`;
    $("t-running").textContent = number(s.tasks.running);
    $("t-tasks").textContent = `of ${number(s.tasks.declared)} tasks`;
    $("t-waiting").textContent = number(s.tasks.waiting);
    $("t-moving").textContent = s.barrier ? "workers wait for each other" : `${number(s.moving)} moving`;
    $("t-imbalance").textContent = s.imbalance.toFixed(3);
    link("status", "live");
  } catch {
    link("status", "dead");
  }
}

function view() {
  const name = location.hash === "#plan" ? "plan" : "now";
  for (const v of ["now", "plan"]) $(`view-${v}`).hidden = v !== name;
  for (const a of document.querySelectorAll("nav a")) {
    if (a.dataset.view === name) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  drawTasks();
}

addEventListener("token-wanted", () => {
  if ($("sign-in").hidden) {
    $("sign-in").hidden = false;
    $("token").focus();
  }
});
$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken($("token").value);
  location.reload();
});

addEventListener("hashchange", view);
view();
watch("/v1/workers:watch", "worker", (w) => w.name, workers, drawWorkers, (how) => link("workers", how));
watch("/v1/tasks:watch", "task", (t) => t.id, tasks, drawTasks, (how) => link("tasks", how));
status();
setInterval(status, 1000);
setInterval(() => document.visibilityState === "visible" && taskView.draw(), 1000);
