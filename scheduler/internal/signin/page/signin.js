// The page of the sign-in. A one-time code comes after #, which browsers send to
// nobody, and is gone from the address before anything else happens.
const code = location.hash.slice(1);
const failed = new URLSearchParams(location.search).get("error");
history.replaceState(null, "", location.pathname);

const $ = (id) => document.getElementById(id);
const say = (text) => ($("said").textContent = text);

const errors = {
  issuer: "The issuer did not confirm who you are.",
  role: "You are known, but have no role in this cluster: ask its administrator.",
  answer: "This sign-in was not begun in this browser, or took too long. Try again.",
  often: "Too many sign-ins from your address have failed: wait some seconds.",
  session: "You are known, but no session could be made. Try again.",
};

async function signIn(path, headers) {
  say("Signing in …");
  try {
    const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json", ...headers } });
    if (response.ok) {
      location.replace("./");
      return;
    }
    const answer = await response.json();
    say(answer.error.message);
  } catch {
    say("The scheduler does not answer.");
  }
  await offer();
}

// offer shows how one can sign in.
async function offer() {
  const response = await fetch("v1/signin");
  const { needed, ways } = await response.json();
  if (!needed) {
    location.replace("./");
    return;
  }
  for (const way of ways) {
    const element = $(way);
    if (element) element.hidden = false;
  }
  $("hint").hidden = false;
}

$("token").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = $("value").value.trim();
  $("value").value = "";
  signIn("v1/signin", { Authorization: `Bearer ${token}` });
});
$("certificate").addEventListener("click", () => signIn("v1/signin", {}));

if (code) {
  await signIn("v1/signin/code", { "Rota-Code": code });
} else {
  await offer().then(
    () => say(failed ? (errors[failed] ?? "The sign-in has failed.") : ""),
    () => say("The scheduler does not answer."),
  );
}
