// Keeps a part of the page as the server has it: asks for the part alone, changes only what is different.
function same(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
}

function takeOver(old, fresh) {
  for (const { name } of [...old.attributes]) {
    // What the reader opened or chose stays so.
    if (!fresh.hasAttribute(name) && !["open", "data-here", "data-new"].includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

export function morph(old, fresh) {
  const byId = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let at = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const known = next.id ? byId.get(next.id) : null;
    if (known && known !== at) {
      old.insertBefore(known, at);
      at = known;
    }
    if (at && same(at, next)) {
      if (at.nodeType === Node.TEXT_NODE) {
        if (at.data !== next.data) at.data = next.data;
      } else if (at.nodeType === Node.ELEMENT_NODE && !at.hasAttribute("data-keep")) {
        takeOver(at, next);
        morph(at, next);
      }
      at = at.nextSibling;
    } else {
      const added = document.importNode(next, true);
      if (added.nodeName === "TR") added.setAttribute("data-new", "");
      old.insertBefore(added, at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

class Part {
  constructor(target) {
    this.target = target;
    this.tag = "";
    this.failed = 0;
    this.plan();
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
  }

  // Part of the page itself, so that what ended says so by taking it away.
  get sign() {
    return document.querySelector(`[data-live][data-into="${this.target.id}"]`);
  }

  plan() {
    clearTimeout(this.timer);
    if (!this.sign) return;
    const every = Number(this.sign.dataset.every || 2000);
    this.timer = setTimeout(() => this.look(), every * Math.min(15, 2 ** this.failed));
  }

  async look() {
    const sign = this.sign;
    if (document.hidden || this.busy || !sign) return this.plan();
    this.busy = true;
    const asked = sign.dataset.live;
    try {
      const answer = await fetch(asked, { headers: this.tag ? { "If-None-Match": this.tag } : {}, cache: "no-store" });
      if (answer.status === 200) {
        const text = await answer.text();
        // The reader may have gone to another step meanwhile.
        if (this.sign?.dataset.live === asked) this.put(text, answer.headers.get("ETag"));
      } else if (answer.status !== 304) {
        throw new Error(`${answer.status}`);
      }
      this.failed = 0;
    } catch {
      this.failed += 1;
    }
    this.busy = false;
    if (this.sign) {
      this.sign.classList.toggle("off", this.failed > 0);
      this.sign.querySelector("span").textContent = this.failed ? "no answer" : "live";
    }
    this.plan();
  }

  put(text, tag) {
    this.tag = tag || "";
    // A document would drop the blanks before its first element: all behind them would be made anew.
    const part = document.createElement("template");
    part.innerHTML = text;
    morph(this.target, part.content);
    document.dispatchEvent(new CustomEvent("flows:changed", { detail: this.target }));
  }

  async swap(address) {
    const url = new URL(address, location.href);
    url.searchParams.set("part", "live");
    const answer = await fetch(url, { cache: "no-store" });
    if (!answer.ok) return location.assign(address);
    this.put(await answer.text(), answer.headers.get("ETag"));
    this.plan();
  }
}

const parts = new Map();
for (const sign of document.querySelectorAll("[data-live]")) {
  const target = document.getElementById(sign.dataset.into);
  if (!parts.has(target)) parts.set(target, new Part(target));
}

// Links that change a part of the page alone.
function partOf(link) {
  const target = link.closest("#live");
  if (target && !parts.has(target)) parts.set(target, new Part(target));
  return target && parts.get(target);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-swap]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const part = partOf(link);
  if (!part) return;
  event.preventDefault();
  history.replaceState(null, "", link.href);
  part.swap(link.href);
});
