// Calls of the API, and its watches as they last.

// The token comes with the page's address, after #, which browsers send to nobody,
// or from whoever is asked for it. It is kept for this tab, and not in its history.
const KEY = "rota-token";
const given = location.hash.match(/^#token=([\w.-]+)$/);
if (given) {
  sessionStorage.setItem(KEY, given[1]);
  history.replaceState(null, "", location.pathname);
}

// useToken has all further calls show this token.
export function useToken(token) {
  sessionStorage.setItem(KEY, token.trim());
}

// ask is fetch with the token; it tells the page when one is wanted.
async function ask(path, options) {
  const token = sessionStorage.getItem(KEY);
  if (token) options.headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, options);
  if (response.status === 401) dispatchEvent(new Event("token-wanted"));
  return response;
}

// call returns the answer to one call; an error has the API's own words.
export async function call(method, path, body) {
  const options = { method, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await ask(path, options);
  const text = await response.text();
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new Error(`${response.status} ${response.statusText}`);
  }
  if (!response.ok) throw new Error(answer.error?.message ?? `${response.status} ${response.statusText}`);
  return answer;
}

// watch keeps a map equal to what the server has, for ever. name(item) is the
// key; changed is called after each batch; link is told "live" or "dead".
export async function watch(path, field, name, items, changed, link) {
  for (let wait = 250; ; wait = Math.min(wait * 2, 5000)) {
    try {
      await follow(path, field, name, items, changed, () => {
        wait = 250;
        link("live");
      });
    } catch (err) {
      console.warn(path, err);
    }
    link("dead");
    await new Promise((resume) => setTimeout(resume, wait));
  }
}

// follow reads one stream to its end. What was known before and is not told
// again before "synced" has gone in the meantime.
async function follow(path, field, name, items, changed, live) {
  const response = await ask(path, { headers: { Accept: "application/x-ndjson" } });
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let stale = new Set(items.keys());
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") continue;
      const event = JSON.parse(line);
      if (event.error) throw new Error(event.error.message);
      if (event.type === "synced") {
        for (const key of stale) items.delete(key);
        stale = new Set();
        live();
        continue;
      }
      const item = event[field];
      stale.delete(name(item));
      if (event.type === "deleted") items.delete(name(item));
      else items.set(name(item), item);
    }
    changed();
  }
}
