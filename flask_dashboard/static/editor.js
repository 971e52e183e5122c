// The JSON editor: tells what is wrong while one writes, formats, sends with Ctrl+Enter, keeps the snippets true.
const form = document.getElementById("send");

function check(area) {
  const words = area.closest(".field").querySelector("[data-wrong]");
  let wrong = "";
  try {
    const value = area.value.trim() ? JSON.parse(area.value) : {};
    if (area.hasAttribute("data-object") && (value === null || typeof value !== "object" || Array.isArray(value))) {
      wrong = "It has to be a JSON object.";
    }
  } catch (error) {
    wrong = error.message;
  }
  words.textContent = wrong;
  area.setCustomValidity(wrong);
  return !wrong;
}

const python = (value) => {
  if (value === null) return "None";
  if (value === true || value === false) return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${python(item)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
};
const shell = (text) => `'${text.replaceAll("'", `'"'"'`)}'`;

function tell() {
  const { name, data, id } = form.elements;
  let value;
  try {
    value = data.value.trim() ? JSON.parse(data.value) : {};
  } catch {
    return;
  }
  const event = { name: name.value, data: value, ...(id.value ? { id: id.value } : {}) };
  const more = id.value ? `, id=${JSON.stringify(id.value)}` : "";
  document.getElementById("python").textContent = `flows.send(${JSON.stringify(name.value)}, ${python(value)}${more})`;
  const curl = document.getElementById("curl");
  curl.textContent = curl.textContent.replace(/-d [\s\S]*$/, () => `-d ${shell(JSON.stringify(event))}`);
}

for (const area of document.querySelectorAll("textarea[data-json]")) {
  area.addEventListener("input", () => check(area));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) area.form.requestSubmit();
    if (event.key === "Tab" && !event.shiftKey && area.selectionStart === area.selectionEnd && area.value.trim()) {
      event.preventDefault();
      area.setRangeText("  ", area.selectionStart, area.selectionEnd, "end");
    }
  });
}
if (form) {
  form.addEventListener("input", tell);
  form.querySelector("[data-format]").addEventListener("click", () => {
    const area = form.elements.data;
    if (check(area)) area.value = JSON.stringify(JSON.parse(area.value || "{}"), null, 2);
  });
}
