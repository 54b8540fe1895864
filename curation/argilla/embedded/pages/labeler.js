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
