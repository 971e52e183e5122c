// Dialogs, copying, filters that need no button, rows that open as a whole.
document.addEventListener("click", (event) => {
  const target = event.target;
  const opener = target.closest("[data-dialog]");
  if (opener) return document.getElementById(opener.dataset.dialog).showModal();
  if (target.closest("[data-close]") || target.matches("dialog")) return target.closest("dialog").close();
  const copier = target.closest("[data-copy]");
  if (copier) return copy(copier);
  const row = target.closest("tr");
  const link = row?.querySelector("[data-open]");
  if (link && !target.closest("a, button, input, label, select") && !String(getSelection())) link.click();
});

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source ? source.textContent : button.dataset.text || "");
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 1200);
  } catch {
    const range = document.createRange();
    if (source) {
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
    }
  }
}

// Moments are chosen in the reader's own zone and asked for in UTC.
for (const field of document.querySelectorAll("input[data-moment]")) {
  const asked = field.form.elements[field.dataset.moment];
  if (asked.value) {
    const at = new Date(asked.value);
    field.value = new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
  }
  field.addEventListener("change", () => (asked.value = field.value ? new Date(field.value).toISOString() : ""));
}

for (const form of document.querySelectorAll("form[data-filters]")) {
  form.addEventListener("change", (event) => {
    const moments = form.querySelector(".moments");
    if (moments && event.target.name === "range") {
      moments.hidden = event.target.value !== "custom";
      if (!moments.hidden) return moments.querySelector("input").focus();
      form.elements.after.value = form.elements.before.value = "";
    }
    if (event.target.matches("select")) form.requestSubmit();
  });
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  });
}

// Menus close when the reader goes on elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

// What cannot be taken back is asked once more.
document.addEventListener("submit", (event) => {
  const words = event.submitter?.dataset.sure;
  if (words && !confirm(words)) event.preventDefault();
});
