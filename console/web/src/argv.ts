// Commands as people write them, and as they are: a list of arguments.
import type { JobCommand } from "./api/types";

// split takes a line apart at its blanks; quotes and backslashes keep what they enclose.
export function split(line: string): string[] {
  const out: string[] = [];
  let word = "";
  let inside = false;
  let quote = "";
  for (let i = 0; i < line.length; i++) {
    const c = line[i]!;
    if (quote) {
      if (c === quote) quote = "";
      else if (c === "\\" && quote === '"' && /["\\]/.test(line[i + 1] ?? "")) word += line[++i];
      else word += c;
    } else if (c === "'" || c === '"') {
      quote = c;
      inside = true;
    } else if (c === "\\" && i + 1 < line.length) {
      word += line[++i];
      inside = true;
    } else if (/\s/.test(c)) {
      if (inside) out.push(word);
      word = "";
      inside = false;
    } else {
      word += c;
      inside = true;
    }
  }
  if (quote) throw new Error(`the quote ${quote} is not closed`);
  if (inside) out.push(word);
  return out;
}

// join is a line that split takes apart into the same arguments.
export function join(argv: readonly string[]): string {
  return argv.map((a) => (a !== "" && !/[\s'"\\]/.test(a) ? a : `'${a.replaceAll("'", `'\\''`)}'`)).join(" ");
}

// fill is the command line of a template with a value for each parameter, in their order.
export function fill(c: Pick<JobCommand, "argv" | "parameters">, values: readonly string[]): string[] {
  return c.argv.flatMap((word, n) => {
    const at = c.parameters.findIndex((p) => p.word === n);
    const p = c.parameters[at];
    if (!p) return [word];
    const value = values[at] ?? "";
    return p.many ? split(value) : [p.before + value + p.after];
  });
}
