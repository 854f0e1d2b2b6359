// Calls of the API of this origin, and its streams of lines.
import { signal } from "@preact/signals";

const meta = document.querySelector<HTMLMetaElement>('meta[name="rota-api"]');

// root is where the API's paths start: beside the page, whatever prefix it has.
const root = new URL(meta?.content ?? "./", location.href.replace(/[?#].*$/, ""));

// Asked is why the API wants to know who asks: in its own words, and as a reason
// ("session_expired") where it has one.
export interface Asked {
  text: string;
  reason: string;
}

// wanted is set while nobody is signed in; nothing is asked again before somebody is.
export const wanted = signal<Asked | undefined>(undefined);

// turn grows with each sign-in and sign-out: a refusal of what was asked before says
// nothing of who is here now.
let turn = 0;

// answered is the turn in which something was answered.
let answered = -1;

// refused notes that the API wants to know who asks. The first reason is the one that tells.
function refused(asked: number, error: ApiError): void {
  if (asked !== turn || wanted.peek()) return;
  // Browsers drop the cookie when its time is over, before the API can say that it is.
  const over = answered === turn && error.reason === "credentials_missing";
  wanted.value = { text: error.message, reason: over ? "session_expired" : error.reason };
}

// ApiError is an answer that says no, in the API's own words.
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly field: string,
    readonly reason = "",
  ) {
    super(message);
  }
}

interface Refusal {
  error?: { code?: string; message?: string; field?: string; reason?: string };
}

type Init = RequestInit & { headers: Record<string, string> };

async function ask(path: string, init: Init): Promise<Response> {
  await begun;
  const asked = turn;
  try {
    const response = await send(path, init);
    answered = asked;
    return response;
  } catch (err) {
    if (err instanceof ApiError && err.status === 401) refused(asked, err);
    throw err;
  }
}

async function send(path: string, init: Init): Promise<Response> {
  const response = await fetch(new URL(path.replace(/^\//, ""), root), { ...init, credentials: "same-origin" });
  if (response.ok) return response;
  const text = await response.text();
  let refusal: Refusal = {};
  try {
    refusal = JSON.parse(text) as Refusal;
  } catch {
    // Whoever answered is not the API: its status has to do.
  }
  throw new ApiError(
    response.status,
    refusal.error?.code ?? "",
    refusal.error?.message || `${response.status} ${response.statusText}`,
    refusal.error?.field ?? "",
    refusal.error?.reason,
  );
}

export async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  const init: Init = { method, headers };
  if (signal) init.signal = signal;
  if (method !== "GET") headers["Content-Type"] = "application/json"; // no page of another origin can say that
  if (body !== undefined) init.body = JSON.stringify(body);
  return (await (await ask(path, init)).json()) as T;
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> => call<T>("GET", path, undefined, signal);

export const post = <T>(path: string, body: unknown = {}): Promise<T> => call<T>("POST", path, body);

// path makes an address of parts, each escaped, and of those parameters that say something.
export function path(parts: string[], query: Record<string, string | number | boolean | undefined> = {}): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    if (value !== undefined && value !== "" && value !== false) params.set(key, String(value));
  }
  const text = params.toString();
  return `/v1/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

// lines reads a stream, a batch of what came together at a time.
export async function* lines<T>(address: string, signal: AbortSignal): AsyncGenerator<T[]> {
  await begun;
  const asked = turn;
  const response = await ask(address, { headers: { Accept: "application/x-ndjson" }, signal });
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let rest = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop() ?? "";
      const batch: T[] = [];
      for (const line of parts) {
        if (line === "") continue;
        const item = JSON.parse(line) as T & Refusal;
        if (item.error?.message !== undefined && item.error.code !== undefined) {
          const error = new ApiError(0, item.error.code, item.error.message, "", item.error.reason);
          if (error.code === "unauthenticated") refused(asked, error);
          throw error;
        }
        batch.push(item);
      }
      if (batch.length) yield batch;
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

// signIn exchanges a token, or the browser's certificate if there is none, for a session:
// a cookie that no script can read.
export async function signIn(token: string): Promise<void> {
  const headers: Record<string, string> = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    await send("/v1/signin", { method: "POST", headers });
    wanted.value = undefined;
  } catch (err) {
    if (err instanceof ApiError && err.status === 401) wanted.value = { text: err.message, reason: err.reason };
    throw err;
  } finally {
    turn++;
  }
}

export async function signOut(): Promise<void> {
  await post("/v1/signout");
  turn++;
  wanted.value = { text: "You have signed out.", reason: "signed_out" };
}

// begun is done when the token that came with the page's address, after #, which browsers
// send to nobody, is exchanged. It stays in no history.
const given = /^#token=([\w.-]+)$/.exec(location.hash);
if (given) history.replaceState(null, "", location.pathname + location.search);
const begun: Promise<void> = given?.[1] ? signIn(given[1]).catch(() => undefined) : Promise.resolve();

// site is an address of this server, for a link.
export const site = (path: string): string => new URL(path, root).href;
