// Small helpers; text is always set as text, never as markup.

export const $ = (id) => document.getElementById(id);

// el makes an element: el("td", { class: "num" }, "text", child).
export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) e.setAttribute(key, value);
  }
  e.append(...children);
  return e;
}

const GOOD = new Set(["ready", "running"]);
const BAD = new Set(["lost", "stuck", "backoff"]);

export function state(name) {
  const kind = GOOD.has(name) ? " good" : BAD.has(name) ? " bad" : "";
  return el("span", { class: "state" + kind }, name || "–");
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
export const number = (n) => whole.format(n);

export function age(time) {
  if (!time) return "–";
  const s = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  if (s < 120) return `${Math.floor(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

// note shows an error until the next thing goes well.
export function note(text) {
  $("note").textContent = text ?? "";
  $("note").hidden = !text;
}

// later runs f once, soon, however often it is asked for.
export function later(f, ms) {
  let due;
  return () => {
    due ??= setTimeout(() => {
      due = undefined;
      f();
    }, ms);
  };
}
