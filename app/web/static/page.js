// What htmx does not do: a file dropped on a page, votes by keys. No page needs it to be read.
"use strict";

function token() {
  return JSON.parse(document.body.getAttribute("hx-headers"))["X-Persona-Token"];
}

async function send(area, file) {
  const note = area.querySelector("[role=status]");
  note.textContent = file.name;
  const address = area.dataset.to + "?name=" + encodeURIComponent(file.name);
  const answer = await fetch(address, {
    method: "POST", body: file, headers: { "X-Persona-Token": token(), "HX-Request": "true" },
  });
  const to = answer.headers.get("HX-Redirect");
  if (to) { location.assign(to); return; }
  note.textContent = "";
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const message = document.getElementById("message");
  message.replaceChildren(...page.body.childNodes);
  message.scrollIntoView({ block: "center" });
}

for (const area of document.querySelectorAll("[data-to]")) {
  const input = area.querySelector("input[type=file]");
  input.addEventListener("change", () => { if (input.files[0]) send(area, input.files[0]); });
  area.addEventListener("dragover", (event) => { event.preventDefault(); area.classList.add("over"); });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    if (event.dataTransfer.files[0]) send(area, event.dataTransfer.files[0]);
  });
}

// J and K go from one card to the next; the current one has the keys.
function step(by) {
  const cards = [...document.querySelectorAll(".voting")];
  const at = cards.findIndex((one) => one.classList.contains("current"));
  const next = cards[at + by];
  if (!next) return;
  cards[at].classList.remove("current");
  next.classList.add("current");
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

// A key presses the button that names it, unless somebody is writing.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select")) return;
  if (event.key === "j" || event.key === "k") { step(event.key === "j" ? 1 : -1); return; }
  const current = document.querySelector(".current") || document;
  const button = [...current.querySelectorAll("[data-key]")].find((one) => one.dataset.key === event.key);
  if (button) { event.preventDefault(); button.click(); }
});
