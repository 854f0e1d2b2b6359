// Who is asked to sign in, and why, whatever order answers come in.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

globalThis.document = { querySelector: () => null };
globalThis.location = { href: "http://127.0.0.1/ui/", hash: "" };

// asked are the requests that wait for an answer, by path.
const asked = new Map();
globalThis.fetch = (url, init) =>
  new Promise((resolve, reject) => {
    init.signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
    asked.set(url.pathname.replace("/ui", ""), resolve);
  });

const { get, lines, signIn, signOut, wanted } = await import("../src/api/http.ts");

const settle = () => new Promise((resume) => setTimeout(resume, 0));

async function answer(path, status, body) {
  await settle();
  assert.ok(asked.has(path), `${path} was asked`);
  asked.get(path)(new Response(typeof body === "string" ? body : JSON.stringify(body), { status }));
  asked.delete(path);
  await settle();
}

const no = (reason) => ({ error: { code: "unauthenticated", message: "no", reason } });
const ask = (path) => void get(path).catch(() => undefined);

beforeEach(() => {
  asked.clear();
  wanted.value = undefined;
});

test("the first reason is kept", async () => {
  ask("/v1/status");
  ask("/v1/whoami");
  await answer("/v1/status", 401, no("session_expired"));
  await answer("/v1/whoami", 401, no("credentials_missing"));
  assert.equal(wanted.value?.reason, "session_expired");
});

test("who has signed in is not asked again by a late answer", async () => {
  ask("/v1/status");
  await settle();
  void signIn("rota_t");
  await answer("/v1/signin", 200, {});
  await answer("/v1/status", 401, no("credentials_missing"));
  assert.equal(wanted.value, undefined);
});

test("why a sign-in failed is not covered by a late answer", async () => {
  ask("/v1/status");
  await settle();
  signIn("rota_t").catch(() => undefined);
  await answer("/v1/signin", 401, no("credentials_bad"));
  await answer("/v1/status", 401, no("credentials_missing"));
  assert.equal(wanted.value?.reason, "credentials_bad");
});

test("who has signed out is told so, whatever ends with the session", async () => {
  const watch = (async () => {
    for await (const _ of lines("/v1/events:watch", new AbortController().signal));
  })().catch(() => undefined);
  ask("/v1/status");
  await settle();
  void signOut();
  await answer("/v1/signout", 200, {});
  await answer("/v1/status", 401, no("credentials_missing"));
  await answer("/v1/events:watch", 200, `${JSON.stringify(no("session_ended"))}\n`);
  await watch;
  assert.equal(wanted.value?.reason, "signed_out");
});

test("a session that ends in the middle of a stream is said", async () => {
  const watch = (async () => {
    for await (const _ of lines("/v1/events:watch", new AbortController().signal));
  })().catch(() => undefined);
  await answer("/v1/events:watch", 200, `${JSON.stringify(no("session_expired"))}\n`);
  await watch;
  assert.equal(wanted.value?.reason, "session_expired");
});

test("a cookie that the browser has dropped is a session that is over", async () => {
  ask("/v1/status");
  await answer("/v1/status", 200, {});
  ask("/v1/status");
  await answer("/v1/status", 401, no("credentials_missing"));
  assert.equal(wanted.value?.reason, "session_expired");
});

test("who has not signed in has no session that is over", async () => {
  void signOut();
  await answer("/v1/signout", 200, {});
  wanted.value = undefined;
  ask("/v1/status");
  await answer("/v1/status", 401, no("credentials_missing"));
  assert.equal(wanted.value?.reason, "credentials_missing");
});
