// Lost says that the picture is not fresh: since when, why, what is still true.
import { link, lostAt, lostWhy, status } from "../api/live";
import { clock, span } from "../format";

export function Lost() {
  const s = status.value;
  if (link.value === "old") {
    return (
      <div class="silence" role="status">
        <strong>The store has not answered this scheduler for {span(s?.age_ms ?? 0)}.</strong> What you see is as of then. Workers keep what they hold until
        their leases end.
      </div>
    );
  }
  if (link.value !== "lost") return null;
  const others = (s?.schedulers ?? []).filter((x) => x.http && x.http !== location.host);
  return (
    <div class="silence" role="status">
      <strong>No word from this scheduler since {clock(lostAt.value)}.</strong> What you see is as of then; workers go on with what they hold. Trying again
      {lostWhy.value && <span class="quiet"> ({lostWhy.value})</span>}.
      {others.length > 0 && (
        <>
          {" "}
          Others:{" "}
          {others.map((x, i) => (
            <span key={x.name}>
              {i > 0 && ", "}
              <a href={`${location.protocol}//${x.http}/${location.hash}`}>{x.name}</a>
            </span>
          ))}
        </>
      )}
    </div>
  );
}
