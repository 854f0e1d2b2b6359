// Output is what a process writes, as it comes: in its colours, searched, followed.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, lines } from "../api/http";
import { pause, visible } from "../api/live";
import { bytes, count } from "../format";
import { Ansi, type Piece } from "./ansi";

const KEPT = 5000; // lines; of more, the last

// Part is a piece of output, of a job or of a task. Of a task there are several logs, one
// after the other: each says where it is from.
export interface Part {
  stream: string;
  offset: number;
  data: string; // base64
  missed: number;
  log?: string;
  run?: number;
  generation?: number;
  worker?: string;
}

interface Line {
  n: number;
  pieces: Piece[];
  text: string;
  from: string; // the stream, or "" for what the page says
}

// Printed takes bytes of all streams and makes lines of them.
class Printed {
  lines: Line[] = [];
  dropped = 0;
  missed = 0;
  offset = 0;
  log = "";
  private run = "";
  private open: Record<string, { decoder: TextDecoder; ansi: Ansi; line?: Line }> = {};
  private made = 0;

  take(part: Part): void {
    const data = Uint8Array.from(atob(part.data), (c) => c.charCodeAt(0));
    this.missed += part.missed;
    this.offset = part.offset + data.length;
    this.log = part.log ?? "";
    if (part.generation !== undefined) this.begin(part);
    const stream = (this.open[part.stream] ??= { decoder: new TextDecoder(), ansi: new Ansi() });
    const text = stream.decoder.decode(data, { stream: true });
    text.split("\n").forEach((piece, i) => {
      if (i > 0) delete stream.line;
      if (piece === "") return;
      if (!stream.line) {
        stream.line = { n: ++this.made, pieces: [], text: "", from: part.stream };
        this.lines.push(stream.line);
      }
      const pieces = stream.ansi.take(piece.replaceAll("\r", ""));
      stream.line.pieces.push(...pieces);
      stream.line.text += pieces.map((p) => p.text).join("");
    });
    if (this.lines.length > KEPT) {
      this.dropped += this.lines.length - KEPT;
      this.lines = this.lines.slice(-KEPT);
    }
  }

  // begin says so where another run of a task begins.
  private begin(part: Part): void {
    const run = `${part.generation} ${part.run} ${part.worker}`;
    if (run === this.run) return;
    if (this.run) {
      const text = `run ${(part.run ?? 0) + 1} on ${part.worker}, generation ${part.generation}`;
      this.lines.push({ n: ++this.made, pieces: [{ text, look: "" }], text, from: "" });
    }
    this.run = run;
    this.open = {};
  }
}

// Output shows what a stream of parts brings. It goes on where it broke off; what goes on
// by itself (a task) is asked for again after its end.
export function Output({ address, empty, endless }: { address: string; empty: string; endless?: boolean }) {
  const [, drawn] = useState(0);
  const [search, setSearch] = useState("");
  const [error, setError] = useState("");
  const [follow, setFollow] = useState(true);
  const printed = useRef(new Printed());
  const box = useRef<HTMLPreElement>(null);
  const seen = visible.value;
  useEffect(() => {
    if (!seen) return;
    const stop = new AbortController();
    let due = 0;
    void (async () => {
      while (!stop.signal.aborted) {
        const { offset, log } = printed.current;
        const from = `${address}&offset=${offset}${log ? `&log=${encodeURIComponent(log)}` : ""}`;
        try {
          for await (const batch of lines<Part>(from, stop.signal)) {
            for (const part of batch) printed.current.take(part);
            due ||= requestAnimationFrame(() => ((due = 0), drawn((n) => n + 1)));
          }
          setError("");
          if (!endless) return;
        } catch (err) {
          if (stop.signal.aborted) return;
          setError(err instanceof ApiError ? err.message : "");
        }
        await pause(1500, stop.signal);
      }
    })();
    return () => (cancelAnimationFrame(due), stop.abort());
  }, [address, seen, endless]);
  useEffect(() => {
    if (follow && box.current) box.current.scrollTop = box.current.scrollHeight;
  });
  const p = printed.current;
  const wanted = search.toLowerCase();
  const shown = wanted ? p.lines.filter((l) => l.text.toLowerCase().includes(wanted)) : p.lines;
  return (
    <>
      <div class="output-tools">
        <label class="filter">
          <span class="hidden">Search the output</span>
          <input type="search" placeholder="Search" value={search} onInput={(e) => setSearch(e.currentTarget.value)} />
        </label>
        <label class="check">
          <input type="checkbox" checked={follow} onChange={(e) => setFollow(e.currentTarget.checked)} /> Follow
        </label>
        {(p.missed > 0 || p.dropped > 0) && (
          <span class="quiet">
            {p.missed > 0 && `${bytes(p.missed)} before are gone. `}
            {p.dropped > 0 && `The last ${count(KEPT)} lines are shown.`}
          </span>
        )}
      </div>
      <pre
        class="output"
        ref={box}
        tabIndex={0}
        role="log"
        aria-label="Output"
        onScroll={(e) => {
          const b = e.currentTarget;
          setFollow(b.scrollHeight - b.scrollTop - b.clientHeight < 30);
        }}
      >
        {shown.length === 0 && <span class="quiet">{error || (wanted ? `No line has ${search}.` : empty)}</span>}
        {shown.map((l) => (
          <div key={l.n} class={`line ${l.from || "run"}`}>
            {l.pieces.map((x, i) => (
              <span key={i} class={x.look || undefined}>
                {x.text}
              </span>
            ))}
          </div>
        ))}
      </pre>
    </>
  );
}
