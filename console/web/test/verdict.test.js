// What the rules say of workers, in columns, marks and words.
import assert from "node:assert/strict";
import { test } from "node:test";

const { columns, verdict, word } = await import("../src/ui/verdict.ts");

const finding = (rule, outcome, value, limit, name = "") => ({ rule, name, outcome, value, limit });
const worker = (name, ...findings) => ({ worker: name, findings });

test("columns are the rules that concern any worker, in the scheduler's order", () => {
  const rows = [worker("w1", finding("kind", "passes", "any", "task"), finding("load", "passes", "1", "the mean is 1")), worker("w2", finding("new", "passes", "", ""), finding("state", "passes", "ready", "ready"))];
  assert.deepEqual(columns(rows), ["state", "kind", "load", "new"]);
  assert.deepEqual(columns([]), []);
  assert.equal(word("new"), "new");
});

test("of several things that a rule asks for, the worst decides and comes first", () => {
  const w = worker("w1", finding("capacity", "passes", "9 of 9 left", "1 needed", "memory"), finding("capacity", "stops", "1 of 4 left", "2 needed", "cpu"));
  const v = verdict(w, "capacity");
  assert.equal(v.tone, "bad");
  assert.equal(v.said, "stops it: cpu: 1 of 4 left, 2 needed; memory: 9 of 9 left, 1 needed");
});

test("what is said once is not said again", () => {
  assert.equal(verdict(worker("w", finding("state", "passes", "ready", "wants ready")), "state").said, "lets it pass: ready");
  assert.equal(verdict(worker("w", finding("labels", "stops", "no gpu", "wants gpu=yes", "gpu=yes")), "labels").said, "stops it: no gpu, wants gpu=yes");
});

test("a rule that does not concern a worker says nothing of it", () => {
  assert.equal(verdict(worker("w"), "tasks"), undefined);
});
