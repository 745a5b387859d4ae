// Keeps the overview up to date: the server sends the parts that changed as HTML that it has escaped.
"use strict";
(() => {
  const verdict = document.getElementById("part-verdict");
  const state = document.getElementById("live-state");
  if (!verdict || !state || !window.EventSource) return;
  const later = new Map();

  function replace(part, html) {
    const open = [...part.querySelectorAll("details[open]")].map((one) => one.id);
    const scrolled = [...part.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    part.innerHTML = html;
    for (const id of open) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    part.querySelectorAll(".scroll").forEach((one, index) => { one.scrollLeft = scrolled[index] || 0; });
  }

  // What somebody is in with keyboard or screen reader is not taken from under them.
  function show(name, html) {
    const part = document.getElementById("part-" + name);
    if (!part) return;
    if (part.contains(document.activeElement)) later.set(part, html);
    else replace(part, html);
  }

  document.addEventListener("focusout", () => setTimeout(() => {
    for (const [part, html] of later) {
      if (part.contains(document.activeElement)) continue;
      later.delete(part);
      replace(part, html);
    }
  }));

  const source = new EventSource(document.body.dataset.base + "/live");
  source.addEventListener("parts", (event) => {
    for (const [name, html] of Object.entries(JSON.parse(event.data))) {
      // An unchanged verdict is not read out again.
      if (name === "verdict") {
        const word = document.querySelector("#part-verdict .word");
        document.title = document.title.replace(/^.*(?= · )/, "");
        show(name, html);
        const now = document.querySelector("#part-verdict .word");
        document.title = (now || word).textContent.replace(/^\W+/, "").trim() + document.title.replace(/^.*(?= · )/, "");
      } else {
        show(name, html);
      }
    }
    state.textContent = ", live";
  });
  source.addEventListener("error", () => { state.textContent = ", not live now"; });
})();
