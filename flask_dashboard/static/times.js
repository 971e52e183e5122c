// Moments in the reader's own zone; lengths that count on while the page is open.
const PAD = (n, width = 2) => String(n).padStart(width, "0");
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

const clock = (at) => `${PAD(at.getHours())}:${PAD(at.getMinutes())}:${PAD(at.getSeconds())}`;

function when(at) {
  const now = new Date();
  if (at.toDateString() === now.toDateString()) return clock(at);
  const year = at.getFullYear() === now.getFullYear() ? "" : ` ${at.getFullYear()}`;
  return `${at.getDate()} ${MONTHS[at.getMonth()]}${year} ${clock(at)}`;
}

export function length(seconds) {
  if (seconds < 60) return `${Math.max(0, seconds).toFixed(seconds < 10 ? 1 : 0)} s`;
  const whole = Math.round(seconds);
  for (const [unit, name, below, smaller] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= unit) {
      const rest = Math.floor((whole % unit) / below);
      return `${Math.floor(whole / unit)} ${name}${rest ? ` ${rest} ${smaller}` : ""}`;
    }
  }
  return `${whole} s`;
}

const FORMS = {
  when,
  clock: (at) => `${when(at)}.${PAD(at.getMilliseconds(), 3)}`,
  short: (at) => (Date.now() - at < 93600000 ? clock(at).slice(0, 5) : `${at.getDate()} ${MONTHS[at.getMonth()]}`),
  since: (at) => length((Date.now() - at) / 1000),
  ago: (at) => `${length((Date.now() - at) / 1000)} ago`,
  in: (at) => (at > Date.now() ? `in ${length((at - Date.now()) / 1000)}` : "now"),
};

function tell(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    const form = FORMS[element.dataset.form] || when;
    const text = form(at);
    if (element.textContent !== text) element.textContent = text;
    if (!element.title) element.title = `${at.toLocaleString()} · ${element.dateTime}`;
  }
}

tell();
document.addEventListener("flows:changed", () => tell());
setInterval(() => {
  if (!document.hidden) tell();
}, 1000);
