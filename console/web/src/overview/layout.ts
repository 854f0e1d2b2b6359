// Where cells lie in a column: strips from the bottom up, each cell as large as its
// weight, none much longer than it is high.

export interface Box {
  x: number;
  y: number;
  w: number;
  h: number;
}

// strips lays out weights, in their order, in a box of a width and a height, both in
// pixels. Its answer has a box for each, measured from the top left.
export function strips(weights: readonly number[], width: number, height: number): Box[] {
  const total = weights.reduce((sum, w) => sum + w, 0);
  const boxes: Box[] = [];
  if (total <= 0 || width <= 0 || height <= 0) return weights.map(() => ({ x: 0, y: height, w: 0, h: 0 }));
  const scale = (width * height) / total;
  let bottom = height;
  for (let first = 0; first < weights.length; ) {
    // A strip takes cells until one more would make them longer than they are now.
    let sum = 0;
    let worst = Infinity;
    let last = first;
    for (; last < weights.length; last++) {
      const area = (weights[last] ?? 0) * scale;
      const tall = (sum + area) / width;
      const biggest = area / tall || 0;
      const mean = (sum + area) / (last - first + 1) / tall;
      const shape = Math.max(tall / mean, mean / tall, biggest / tall / 4);
      if (last > first && shape > worst) break;
      worst = shape;
      sum += area;
    }
    const tall = sum / width;
    let x = 0;
    for (let i = first; i < last; i++) {
      const w = ((weights[i] ?? 0) * scale) / tall || 0;
      boxes.push({ x, y: bottom - tall, w, h: tall });
      x += w;
    }
    bottom -= tall;
    first = last;
  }
  return boxes;
}
