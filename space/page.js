() => {
  // Gradio's own markup, mended where screen readers would stumble over it.
  const mend = () => {
    for (const each of document.querySelectorAll('.thumbnail-wrapper[role="listitem"]')) {
      each.setAttribute("role", "group"); // its parent is no list
    }
    // Wide tables scroll, also by the keyboard.
    for (const table of document.querySelectorAll("#about table, #about pre")) table.tabIndex = 0;
    for (const inner of document.querySelectorAll("button button")) {
      const outer = inner.parentElement.closest("button"); // the inner one is the button
      outer.setAttribute("role", "group");
      outer.setAttribute("aria-label", "Upload more");
      outer.tabIndex = -1;
    }
  };
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
  mend();
}
