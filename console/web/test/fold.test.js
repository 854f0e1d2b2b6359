// Events that repeat, as one line.
import assert from "node:assert/strict";
import { test } from "node:test";

const { fold } = await import("../src/ui/fold.ts");

const event = (id, kind, more = {}) => ({ id, kind, time: `t${id}`, text: "", who: "", from: "", count: 1, moves: [], left_out: 0, subject: { pool: "web" }, ...more });

test("events that say the same, one after the other, are one line with how often and since when", () => {
  const lines = fold([event("5", "pool.failed"), event("4", "pool.failed", { count: 7 }), event("3", "pool.failed"), event("2", "pool.started"), event("1", "pool.failed")]);
  assert.deepEqual(
    lines.map((l) => [l.e.id, l.times, l.since]),
    [["5", 9, "t3"], ["2", 1, ""], ["1", 1, ""]],
  );
});

test("what differs in its subject, text or author is told of by itself", () => {
  for (const other of [{ text: "another" }, { who: "alice" }, { subject: { pool: "idle" } }, { exit_code: 3 }, { subject: { pool: "web", index: 1 } }])
    assert.equal(fold([event("2", "pool.failed"), event("1", "pool.failed", other)]).length, 2);
});

test("a run of another generation is the same", () => {
  const run = (id, generation) => event(id, "task.failed", { subject: { task: "t", generation } });
  assert.equal(fold([run("2", 9), run("1", 8)])[0].times, 2);
});

test("passes are told of one by one, each with its moves", () => {
  const pass = (id) => event(id, "pass", { moves: [{ task: "t" }] });
  assert.equal(fold([pass("2"), pass("1")]).length, 2);
  assert.equal(fold([event("2", "events.left-out", { left_out: 3 }), event("1", "events.left-out", { left_out: 3 })]).length, 2);
});

test("a task that fails again and again is two lines: it fails, it is started again", () => {
  const run = (id, kind) => event(id, kind, { subject: { task: "t" } });
  const lines = fold([run("5", "task.failed"), run("4", "task.restarted"), run("3", "task.failed"), run("2", "task.restarted"), run("1", "task.failed")]);
  assert.deepEqual(lines.map((l) => [l.e.kind, l.times, l.since]), [["task.failed", 3, "t1"], ["task.restarted", 2, "t2"]]);
  const other = fold([run("3", "task.failed"), event("2", "task.restarted", { subject: { task: "u" } }), run("1", "task.failed")]);
  assert.equal(other.length, 3, "another task is in between");
});

test("what happens to many tasks at about one time is one line, unless it went wrong", () => {
  const at = (n, kind, seconds = 0) => event(String(n), kind, { time: new Date(1e12 + 1000 * seconds).toISOString(), subject: { task: `t${n}`, worker: "w1" } });
  const many = (kind, seconds) => [5, 4, 3, 2].map((n) => at(n, kind, seconds?.(n)));
  const [line, ...rest] = fold(many("task.started"));
  assert.deepEqual([line.e.id, line.of.map((l) => l.e.id), rest], ["5", ["5", "4", "3", "2"], []]);
  assert.equal(fold(many("task.started").slice(1)).length, 3, "few are told of one by one");
  assert.equal(fold(many("task.started", (n) => 10 * n)).length, 4, "far apart");
  assert.equal(fold(many("task.failed")).length, 4, "each has its cause");
});
