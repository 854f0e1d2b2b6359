// How calls of functions go, in words.
import assert from "node:assert/strict";
import { test } from "node:test";

const { failing, share, shortJob } = await import("../src/format.ts");

test("of no calls there is no share that failed", () => {
  assert.equal(failing({ rate: 0, errors: 0 }), "–");
  assert.equal(failing(undefined), "–");
  assert.equal(failing({ rate: 4, errors: 0 }), "0 %");
  assert.equal(failing({ rate: 4, errors: 0.25 }), "25 %");
});

test("a share that is small is not nothing", () => {
  assert.equal(share(0.0001), "< 0.1 %");
  assert.equal(share(1), "100 %");
});

test("two jobs in a row have two short ids", () => {
  assert.equal(shortJob("0198c3a0-1f2e-7c3d-8a4b-5d6e7f809a1b"), "…809a1b");
  assert.notEqual(shortJob("0198c3a0-1f2e-7c3d-8a4b-5d6e7f809a1b"), shortJob("0198c3a0-1f2e-7c3d-8a4b-5d6e7f809a1c"));
  assert.equal(shortJob("j1"), "j1");
});
