// Command lines, and those made of templates.
import assert from "node:assert/strict";
import { test } from "node:test";

const { fill, join, split } = await import("../src/argv.ts");

test("what is joined is split into the same arguments", () => {
  for (const argv of [["seq", "5"], ["echo", "two words", "", "it's", 'a "b"', "\\"], []]) assert.deepEqual(split(join(argv)), argv);
});

const parameter = (word, more = {}) => ({ word, name: "p", type: "any", before: "", after: "", choices: [], many: false, ...more });

test("a template takes a value for each parameter, between its literal texts", () => {
  const c = { argv: ["x", "{a:word}", "y", "--n={b:int}!"], parameters: [parameter(1), parameter(3, { before: "--n=", after: "!" })] };
  assert.deepEqual(fill(c, ["one two", "3"]), ["x", "one two", "y", "--n=3!"]);
  assert.deepEqual(fill(c, []), ["x", "", "y", "--n=!"]);
});

test("a parameter that is many takes none or more arguments", () => {
  const c = { argv: ["echo", "{words:any...}"], parameters: [parameter(1, { many: true })] };
  assert.deepEqual(fill(c, ["a 'b c'"]), ["echo", "a", "b c"]);
  assert.deepEqual(fill(c, [""]), ["echo"]);
});

test("a command without parameters is what it is", () => assert.deepEqual(fill({ argv: ["date"], parameters: [] }, []), ["date"]));
