// Light or dark: what the reader chose goes with each request, so that no page comes in the wrong one first.
const root = document.documentElement;
const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

document.querySelector("[data-theme-switch]").addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  document.cookie = `flows_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict`;
});
