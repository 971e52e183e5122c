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
  constructor(sign) {
    this.sign = sign;
    this.every = Number(sign.dataset.every || 2000);
    this.tag = "";
    this.failed = 0;
    this.plan();
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
    document.addEventListener("flows:look", () => this.look());
  }

  plan() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), this.every * Math.min(15, 2 ** this.failed));
  }

  async look() {
    if (document.hidden || this.busy || !this.sign.isConnected) return this.plan();
    this.busy = true;
    try {
      const headers = this.tag ? { "If-None-Match": this.tag } : {};
      const answer = await fetch(this.sign.dataset.live, { headers, cache: "no-store" });
      if (answer.status === 200) {
        this.tag = answer.headers.get("ETag") || "";
        this.put(await answer.text());
      } else if (answer.status !== 304) {
        throw new Error(`${answer.status}`);
      }
      this.failed = 0;
    } catch {
      this.failed += 1;
    }
    this.busy = false;
    this.sign.classList.toggle("off", this.failed > 0);
    const words = this.sign.querySelector("span");
    if (words) words.textContent = this.failed ? "no answer" : "live";
    this.plan();
  }

  put(text) {
    const target = document.getElementById(this.sign.dataset.into);
    const fresh = new DOMParser().parseFromString(text, "text/html").body;
    morph(target, fresh);
    document.dispatchEvent(new CustomEvent("flows:changed", { detail: target }));
  }
}

for (const sign of document.querySelectorAll("[data-live]")) new Part(sign);
