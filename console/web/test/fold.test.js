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
