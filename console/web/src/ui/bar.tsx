// The bar: who leads, how old the picture is, search, the theme, who looks.
import { signOut } from "../api/http";
import { link, lostAt, me, now, status } from "../api/live";
import { exact, span } from "../format";
import { choice, turn } from "../theme";
import { Icon, type IconName } from "./icons";
import { IconButton } from "./parts";

const SOON = 15 * 60_000; // ms before its end that a session says so

const THEMES: Record<string, [IconName, string]> = {
  auto: ["auto", "Theme: as the machine's"],
  light: ["light", "Theme: light"],
  dark: ["dark", "Theme: dark"],
};

// Since is how old the picture is, in words.
function Since() {
  const s = status.value;
  switch (link.value) {
    case "connecting":
      return <span class="link">connecting</span>;
    case "lost":
      return <span class="link bad">{span(now.value - lostAt.value)} old</span>;
    case "old":
      return <span class="link warn">{span(s?.age_ms ?? 0)} old</span>;
    default:
      return <span class="link ok">live</span>;
  }
}

export function Bar({ onSearch }: { onSearch: () => void }) {
  const s = status.value;
  const [icon, said] = THEMES[choice.value] ?? ["auto", "Theme"];
  const who = me.value;
  return (
    <header class="topbar">
      <Since />
      {who && who.namespace !== "default" && <span class="strong id">{who.namespace}</span>}
      {s && (
        <span class="leader quiet" title={`${s.schedulers.length} schedulers, version ${s.version}`}>
          {s.leader ? (
            <>
              <span class="id">{s.leader}</span> leads <span class="epoch">since epoch {s.epoch}</span>
            </>
          ) : (
            "no leader"
          )}
        </span>
      )}
      <button type="button" class="search" onClick={onSearch} aria-label="Search and commands" aria-keyshortcuts="/ Control+K">
        <Icon name="search" />
        <span>Search and commands</span>
        <kbd>/</kbd>
      </button>
      <IconButton icon={icon} label={said} onClick={turn} />
      {who && (
        <span class="caller" title={who.expires ? `${who.kind}, until ${exact(who.expires)}` : who.kind}>
          {who.name}
          <span class="quiet"> {who.role}</span>
          {who.expires && Date.parse(who.expires) - now.value < SOON && <span class="warn-text"> for {span(Date.parse(who.expires) - now.value)} more</span>}
        </span>
      )}
      {who?.session && <IconButton icon="leave" label="Sign out" onClick={() => void signOut().catch(() => undefined)} />}
    </header>
  );
}
