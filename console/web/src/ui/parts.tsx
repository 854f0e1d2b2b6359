// The small parts that every screen is made of.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { now } from "../api/live";
import { age, exact } from "../format";
import { Icon, type IconName } from "./icons";

type Children = { children?: ComponentChildren };

// Age is how long ago something was; exact when hovered.
export function Age({ time, ago = false }: { time: string | null | undefined; ago?: boolean }) {
  if (!time) return <span class="quiet">–</span>;
  return (
    <time dateTime={time} title={exact(time)}>
      {age(time, now.value)}
      {ago && " ago"}
    </time>
  );
}

export function Heading({ title, note, children }: { title: string; note?: ComponentChildren } & Children) {
  return (
    <div class="heading">
      <h1>{title}</h1>
      {note !== undefined && <p class="quiet">{note}</p>}
      <div class="actions">{children}</div>
    </div>
  );
}

// Empty says what a list would show, and the one command that fills it.
export function Empty({ title, command, children }: { title: string; command?: string } & Children) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      <p>{children}</p>
      {command && <Command text={command} />}
    </div>
  );
}

export function Command({ text }: { text: string }) {
  return (
    <p class="command">
      <code>{text}</code>
      <Copy text={text} label="command" />
    </p>
  );
}

export function Copy({ text, label }: { text: string; label: string }) {
  const [done, set] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text).catch(() => undefined);
    set(true);
    setTimeout(() => set(false), 1500);
  };
  return (
    <button type="button" class="plain" aria-label={done ? "Copied" : `Copy ${label}`} title={done ? "Copied" : `Copy ${label}`} onClick={copy}>
      <Icon name="copy" />
    </button>
  );
}

// Failed says what could not be done, and in whose words.
export function Failed({ what, error, onClose }: { what: string; error: Error; onClose?: () => void }) {
  return (
    <div class="failed" role="alert">
      <p>
        <strong>{what}</strong> {error.message}
      </p>
      {onClose && <IconButton icon="close" label="Dismiss" onClick={onClose} />}
    </div>
  );
}

export function IconButton({ icon, label, onClick, pressed }: { icon: IconName; label: string; onClick: () => void; pressed?: boolean }) {
  return (
    <button type="button" class="plain" aria-label={label} title={label} aria-pressed={pressed} onClick={onClick}>
      <Icon name={icon} />
    </button>
  );
}

// Facts are names and values; what says nothing is left out.
export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {of
        .filter(([, value]) => value !== "" && value !== undefined && value !== null && value !== 0 && value !== false)
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

export function Section({ title, aside, children }: { title: string; aside?: ComponentChildren } & Children) {
  return (
    <section class="section">
      <div class="section-head">
        <h2>{title}</h2>
        {aside}
      </div>
      {children}
    </section>
  );
}

// Bar is a share of a whole, with the mean as a line where it is known.
export function Bar({ share, mean, label }: { share: number; mean?: number; label: string }) {
  const at = (n: number) => `${Math.max(0, Math.min(100, n * 100)).toFixed(2)}%`;
  return (
    <span class="bar" role="img" aria-label={label} title={label}>
      <span class="fill" style={{ width: at(share) }} />
      {mean !== undefined && <span class="mean" style={{ left: at(mean) }} />}
    </span>
  );
}

// Dialog stands before everything until it is answered. The focus is on its first field or,
// without one, on the action that changes nothing, which comes first.
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void } & Children) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = box.current;
    dialog?.showModal();
    dialog?.querySelector<HTMLElement>("form input, form select, form textarea, .dialog-actions button")?.focus();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={box}
      class="dialog"
      aria-label={title}
      onCancel={(e) => (e.preventDefault(), onClose())}
      onClick={(e) => e.target === box.current && onClose()}
    >
      <div class="dialog-body">
        <div class="dialog-head">
          <h2>{title}</h2>
          <IconButton icon="close" label="Close" onClick={onClose} />
        </div>
        {children}
      </div>
    </dialog>
  );
}

// Sheet shows one thing beside the list that it is from.
export function Sheet({ title, kind, back, wide, onWide, children }: { title: string; kind: string; back: string; wide: boolean; onWide: () => void } & Children) {
  const head = useRef<HTMLHeadingElement>(null);
  useEffect(() => head.current?.focus(), [title]);
  return (
    <aside class={wide ? "sheet whole" : "sheet"} aria-label={`${kind} ${title}`}>
      <header class="sheet-head">
        <div>
          <p class="quiet">{kind}</p>
          <h1 tabIndex={-1} ref={head} class="id">
            {title}
          </h1>
        </div>
        <Copy text={title} label="name" />
        <span class="only-wide">
          <IconButton icon={wide ? "narrow" : "wide"} label={wide ? "Show beside the list" : "Take the whole width"} onClick={onWide} />
        </span>
        <a class="plain button" href={back} aria-label="Back to the list" title="Back to the list (Esc)" data-back>
          <Icon name="close" />
        </a>
      </header>
      <div class="sheet-body">{children}</div>
    </aside>
  );
}

export function Loading() {
  return (
    <p class="quiet pad" role="status">
      asking
    </p>
  );
}
