// What a list is narrowed to: words that are taken once somebody stops to type.
import { useEffect, useRef, useState } from "preact/hooks";
import { Icon } from "./icons";
import { word } from "./state";

export function Filter({ label, value, onChange, search }: { label: string; value: string; onChange: (value: string) => void; search?: boolean }) {
  const [text, setText] = useState(value);
  const due = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => setText(value), [value]);
  useEffect(() => () => clearTimeout(due.current), []);
  return (
    <label class={search ? "filter search-filter" : "filter"}>
      <span class="hidden">{label}</span>
      {search && <Icon name="search" />}
      <input
        type="search"
        placeholder={label}
        autocomplete="off"
        spellcheck={false}
        value={text}
        onInput={(e) => {
          const now = e.currentTarget.value;
          setText(now);
          clearTimeout(due.current);
          due.current = setTimeout(() => onChange(now.trim()), 200);
        }}
      />
    </label>
  );
}

export function Select({ label, value, of, onChange }: { label: string; value: string; of: string[]; onChange: (value: string) => void }) {
  return (
    <label class="filter">
      <span class="hidden">{label}</span>
      <select value={value} onChange={(e) => onChange(e.currentTarget.value)}>
        <option value="">every {label.toLowerCase()}</option>
        {of.map((o) => (
          <option key={o} value={o}>
            {word(o)}
          </option>
        ))}
      </select>
    </label>
  );
}
