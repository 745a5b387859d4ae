// Keeps pages up to date with HTML that the server has escaped: the overview as it is told what changed, the page of a
// task that runs by asking again until it has ended.
"use strict";
(() => {
  const main = document.querySelector("main[data-again]");
  async function again() {
    try {
      const answer = await fetch(location.href);
      const there = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      const inside = main.contains(document.activeElement) && document.activeElement !== main;
      if (answer.ok && there && !inside) {
        if (main.innerHTML !== there.innerHTML) main.innerHTML = there.innerHTML;
        if (!there.dataset.again) return;
      }
    } catch (error) {
      console.info("no answer; asking again", error.message);
    }
    setTimeout(again, main.dataset.again * 1000);
  }
  if (main) setTimeout(again, main.dataset.again * 1000);
})();
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
      show(name, html);
    }
    const word = document.querySelector("#part-verdict .word");
    if (word) document.title = word.textContent.replace(/^\W+/, "").trim() + " · aworker";
    state.textContent = ", and kept up to date since";
  });
  // A stream ends now and then, and the browser comes again: only when it does not is that worth a word.
  let silent;
  source.addEventListener("open", () => clearTimeout(silent));
  source.addEventListener("error", () => {
    clearTimeout(silent);
    silent = setTimeout(() => { state.textContent = "; the page hears of no changes now"; }, 8000);
  });
})();
