import assert from "node:assert/strict";
import { test } from "node:test";

const { until } = await import("../src/format.ts");

const now = Date.parse("2026-12-01T12:00:00Z");
const after = (ms) => until(new Date(now + ms).toISOString(), now);

test("what comes is said in whole seconds, and what has come is now", () => {
  for (const [ms, said] of [
    [-5000, "now"], [0, "now"], [1, "in 1 s"], [1000, "in 1 s"], [9001, "in 10 s"], [119000, "in 119 s"], [120000, "in 2 min"], [90000000, "in 25 h"],
  ]) assert.equal(after(ms), said);
});
