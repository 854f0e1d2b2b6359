// Colours of groups: from teal over blue to rose, of nearly one lightness and little
// chroma, so that none stands out. Green, amber and red are for states.

const hues = new Map<string, number>();

// hue is the same for a group at every visit.
export function hue(group: string): number {
  let h = hues.get(group);
  if (h === undefined) {
    h = 2166136261;
    for (let i = 0; i < group.length; i++) h = Math.imul(h ^ group.charCodeAt(i), 16777619);
    h ^= h >>> 15; // the low bits of neighbours differ too little
    h = Math.imul(h, 2246822519);
    h = ((h ^ (h >>> 13)) >>> 0) % 180 + 170;
    hues.set(group, h);
  }
  return h;
}

export interface Inks {
  cell: (group: string) => string;
  gone: string;
  coming: number; // opacity of what does not run yet
  bad: string;
  accent: string;
  mean: string;
  rest: string;
}

const memo = new Map<string, string>();

export function inks(element: Element): Inks {
  const style = getComputedStyle(element);
  const of = (name: string): string => style.getPropertyValue(name).trim();
  const dark = style.colorScheme === "dark";
  return {
    cell: (group) => {
      const key = `${dark}${group}`;
      let colour = memo.get(key);
      if (!colour) {
        const h = hue(group);
        const lift = ((h * 7) % 5) * 2.4; // neighbours in hue differ in lightness
        colour = `oklch(${(dark ? 52 : 74) + lift}% ${dark ? 0.075 : 0.08} ${h})`;
        memo.set(key, colour);
      }
      return colour;
    },
    gone: of("--gone"),
    coming: 0.45,
    bad: of("--bad"),
    accent: of("--accent"),
    mean: of("--ink-2"),
    rest: of("--cell-rest"),
  };
}
