// The theme: light, dark, or what the machine says.
import { effect, signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";

const KEY = "rota-theme";
const kept = localStorage.getItem(KEY);

export const choice = signal<Theme>(kept === "light" || kept === "dark" ? kept : "auto");

const dark = matchMedia("(prefers-color-scheme: dark)");
export const theme = signal<"light" | "dark">("light");

effect(() => {
  const apply = () => {
    theme.value = choice.value === "auto" ? (dark.matches ? "dark" : "light") : choice.value;
    document.documentElement.dataset.theme = theme.value;
  };
  apply();
  if (choice.value === "auto") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, choice.value);
  dark.addEventListener("change", apply);
  return () => dark.removeEventListener("change", apply);
});

export function turn(): void {
  choice.value = choice.value === "auto" ? "light" : choice.value === "light" ? "dark" : "auto";
}
