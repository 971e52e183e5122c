// The keyboard: j and k along the rows, / to the filter, g and a letter to a page, ? for all of them.
const typing = (target) => target.closest("input, textarea, select, [contenteditable]");
const rows = () => [...document.querySelectorAll("[data-rows] tbody tr, [data-rows] [data-row]")];
const PAGES = { r: "Runs", e: "Events", f: "Flows", x: "Failures", m: "Metrics", l: "Limits", w: "Workers", a: "Alerts", u: "Audit", s: "Send event" };
let leading = 0;

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.hasAttribute("data-here"));
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
  all[at]?.removeAttribute("data-here");
  next.setAttribute("data-here", "");
  next.scrollIntoView({ block: "nearest" });
  (next.querySelector("[data-open]") || next).focus({ preventScroll: true });
}

function go(letter) {
  const place = [...document.querySelectorAll("nav.side a.to")].find((a) => a.textContent.trim() === PAGES[letter]);
  if (place) location.assign(place.href);
}

const ACTS = {
  j: () => step(1),
  k: () => step(-1),
  "/": () => (document.querySelector("[data-search]") || document.querySelector("[data-filters] input"))?.focus(),
  "?": () => document.getElementById("keys").showModal(),
  t: () => document.querySelector("[data-theme-switch]").click(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && typing(event.target)) return event.target.blur();
  if (typing(event.target) || document.querySelector("dialog[open]")) return;
  if (Date.now() - leading < 900 && PAGES[event.key]) {
    leading = 0;
    event.preventDefault();
    return go(event.key);
  }
  if (event.key === "g") {
    leading = Date.now();
    return;
  }
  const act = ACTS[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

// On a phone the pages are a line that scrolls: the one at hand is to be seen.
document.querySelector("nav.side [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
document.querySelector("[data-keys]").addEventListener("click", ACTS["?"]);
