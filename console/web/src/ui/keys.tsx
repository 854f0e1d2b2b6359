// Keys is the list of what can be pressed.
import { Dialog } from "./parts";
import { places } from "./rail";

const KEYS: [string, string][] = [
  ["/", "search and commands (Ctrl-K too)"],
  ["?", "this list"],
  ["j k", "next and previous row; the arrows too"],
  ["Enter", "open"],
  ["Esc", "close what is open"],
];

export function Keys({ onClose }: { onClose: () => void }) {
  const all: [string, string][] = [...KEYS, ...places.map((p): [string, string] => [`g ${p.key}`, p.word])];
  return (
    <Dialog title="Keys" onClose={onClose}>
      <dl class="keys">
        {all.map(([keys, what]) => (
          <div key={keys}>
            <dt>
              {keys.split(" ").map((k) => (
                <kbd key={k}>{k}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
