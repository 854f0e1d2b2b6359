// Colours of terminals, as classes. Whatever else an escape says is left out.

export interface Piece {
  text: string;
  look: string; // classes
}

const ESCAPE = /\u001b\[([0-9;:]*)([A-Za-z])|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|\u001b[@-Z\\-_]/g;

// Ansi reads text piece by piece and keeps what colour is on.
export class Ansi {
  private colour = "";
  private bold = false;

  take(text: string): Piece[] {
    const out: Piece[] = [];
    let from = 0;
    const push = (to: number) => {
      if (to > from) out.push({ text: text.slice(from, to), look: [this.colour, this.bold && "b"].filter(Boolean).join(" ") });
    };
    for (const m of text.matchAll(ESCAPE)) {
      push(m.index);
      from = m.index + m[0].length;
      if (m[2] === "m") this.set(m[1] ?? "");
    }
    push(text.length);
    return out;
  }

  private set(codes: string): void {
    const list = codes.split(";").map(Number);
    for (let i = 0; i < list.length; i++) {
      const c = list[i] ?? 0;
      if (c === 0) {
        this.colour = "";
        this.bold = false;
      } else if (c === 1) this.bold = true;
      else if (c === 22) this.bold = false;
      else if (c === 39) this.colour = "";
      else if (c >= 30 && c <= 37) this.colour = `c${c - 30}`;
      else if (c >= 90 && c <= 97) this.colour = `c${c - 90}`;
      else if (c === 38 || c === 48) i += list[i + 1] === 5 ? 2 : 4;
    }
  }
}
