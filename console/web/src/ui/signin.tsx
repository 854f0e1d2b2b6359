// SignIn is what there is while nobody is signed in: the ways that the cluster knows.
import { useEffect, useState } from "preact/hooks";
import { get, signIn, site, type Asked } from "../api/http";
import type { SignInWays } from "../api/types";
import { useFocus } from "./focus";
import { Command } from "./parts";

// What a reason means; what is not here is said in the API's words.
const SAID: Record<string, string> = {
  credentials_missing: "",
  credentials_bad: "This token is not known here, has been revoked, or has expired.",
  session_expired: "Your session is over. Sign in again to go on where you were.",
  session_ended: "Your session has been ended: somebody signed out, or what it began with was revoked.",
};

export function SignIn({ why }: { why: Asked }) {
  const [token, set] = useState("");
  const [ways, setWays] = useState<SignInWays>();
  const first = useFocus<HTMLInputElement>();
  const said = SAID[why.reason] ?? why.text;
  useEffect(() => {
    get<SignInWays>("/v1/signin").then(setWays, () => undefined);
  }, []);
  const enter = (with_: string) => signIn(with_).catch(() => set("")); // why not is in wanted
  const has = (way: string) => ways?.ways.includes(way) ?? false;
  return (
    <main class="sign-in" id="sign-in">
      <form
        onSubmit={(e) => {
          e.preventDefault();
          void enter(token.trim());
        }}
      >
        <img src="./icon.svg" alt="" width="40" height="40" />
        <h1>Sign in to rota</h1>
        {said && (
          <p class={why.reason === "signed_out" ? "notice" : "failed"} role="alert">
            {said}
          </p>
        )}
        <label>
          Token
          <input type="password" autocomplete="off" spellcheck={false} required value={token} onInput={(e) => set(e.currentTarget.value)} ref={first} />
        </label>
        <button type="submit" class="primary">
          Sign in
        </button>
        {has("oidc") && (
          <a class="button" href={site("v1/signin/oidc")} onClick={() => sessionStorage.setItem("rota-return", location.hash)}>
            Sign in at {ways?.issuer.replace(/^https?:\/\//, "")}
          </a>
        )}
        {has("certificate") && (
          <button type="button" onClick={() => enter("")}>
            Sign in with this browser's certificate
          </button>
        )}
        <p class="quiet">Where the command line knows the cluster, it opens this page and signs in:</p>
        <Command text="rota ui" />
      </form>
    </main>
  );
}
