// The terminal takes keys without a click, as soon as it is connected; what has the focus before then could not be told.
addEventListener("load", () => {
  const terminal = document.querySelector(".textual-terminal");
  const watch = new MutationObserver(() => {
    if (terminal.classList.contains("-connected")) {
      watch.disconnect();
      terminal.querySelector(".xterm-helper-textarea").focus();
    }
  });
  watch.observe(terminal, { attributeFilter: ["class"] });
});
