// Argilla takes Enter for "submit" and Backspace for "discard" wherever the focus is. With ↓ a
// labeler reaches the correction, presses Enter to write in it, and has submitted the row. Here
// Enter on a text question begins to write in it, as Argilla's own Shift+Enter does, and Backspace
// does nothing there.
document.addEventListener(
  "keydown",
  (event) => {
    const at = event.target;
    if (event.shiftKey || at.isContentEditable || !/^(Enter|Backspace)$/.test(event.code)) return;
    const question = at.closest && at.closest('[aria-label^="Question:"]');
    if (!question || /^(INPUT|TEXTAREA|BUTTON|A)$/.test(at.tagName)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (event.code === "Enter") {
      const write = { key: "Enter", code: "Enter", shiftKey: true, bubbles: true, cancelable: true };
      at.dispatchEvent(new KeyboardEvent("keydown", { ...write, keyCode: 13 }));
    }
  },
  true,
);

// "Which answer is better?" is asked of a whole dataset, also where a row has one answer. There it
// goes out of sight, and the focus passes over it. A second answer's field is titled by the label
// that the question gives it, such as "Answer B" and "B". Nothing of a row is answered here.
let upwards = false;
addEventListener("keydown", (event) => (upwards = event.key === "ArrowUp"), true);
const unasked = () => document.querySelector('[aria-label="Question: better"][data-unasked]');
const style = document.createElement("style");
style.textContent =
  "[data-unasked]{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}";
document.head.append(style);
new MutationObserver(() => {
  const question = document.querySelector('[aria-label="Question: better"]');
  const label = question && question.querySelector('label[for="better_b"]');
  const titles = [...document.querySelectorAll(".record__content [class*=title-content]")];
  if (!label || !titles.length) return;
  const two = titles.some((one) => one.textContent.trim().endsWith(` ${label.title}`));
  question.toggleAttribute("data-unasked", !two);
  question.toggleAttribute("aria-hidden", false);
  if (!two) question.setAttribute("aria-hidden", "true");
}).observe(document.documentElement, { childList: true, characterData: true, subtree: true });
document.addEventListener("focusin", (event) => {
  const question = unasked();
  if (!question || !question.contains(event.target)) return;
  const key = upwards ? "ArrowUp" : "ArrowDown";
  question.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
});
