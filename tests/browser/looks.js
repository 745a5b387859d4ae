// What keeps a page from being used with a keyboard, a screen reader or weak eyes; a list of findings, empty when none.
() => {
  const found = [];
  const all = (what) => [...document.querySelectorAll(what)];
  const where = (one) => one.outerHTML.slice(0, 90);

  if (!document.documentElement.lang) found.push("no language");
  if (!document.title.trim()) found.push("no title");
  for (const landmark of ["main", "body > header", "body > footer"]) {
    if (all(landmark).length !== 1) found.push(`${all(landmark).length} of ${landmark}`);
  }
  for (const nav of all("nav")) if (!nav.getAttribute("aria-label")) found.push(`unnamed: ${where(nav)}`);

  let level = 0;
  if (all("h1").length !== 1) found.push(`${all("h1").length} headings of the first level`);
  for (const heading of all("h1, h2, h3, h4, h5, h6")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) found.push(`heading skips a level: ${where(heading)}`);
    level = next;
    if (!heading.textContent.trim()) found.push("empty heading");
  }

  for (const input of all("input:not([type=hidden]), select, textarea")) {
    if (!input.labels.length && !input.getAttribute("aria-label")) found.push(`no label: ${where(input)}`);
  }
  for (const one of all("a, button, summary")) {
    if (!(one.textContent.trim() || one.getAttribute("aria-label"))) found.push(`no name: ${where(one)}`);
  }
  for (const svg of all("svg")) {
    if (svg.getAttribute("role") !== "img" || !svg.getAttribute("aria-label")) found.push(`unnamed: ${where(svg)}`);
  }
  for (const table of all("table")) {
    if (!table.caption || !table.caption.textContent.trim()) found.push(`no caption: ${where(table)}`);
    for (const th of table.querySelectorAll("th")) {
      if (!th.scope || !th.textContent.trim()) found.push(`header without scope or text: ${where(th)}`);
    }
  }
  for (const one of all("*")) {
    const scrolls = /auto|scroll/.test(getComputedStyle(one).overflowX + getComputedStyle(one).overflowY);
    if (scrolls && one.tabIndex < 0 && one !== document.documentElement) found.push(`no keyboard scrolls: ${where(one)}`);
    if (one.hasAttribute("style")) found.push(`style of its own: ${where(one)}`);
  }
  const ids = all("[id]").map((one) => one.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push(`twice: #${id}`);
  for (const one of all("[aria-labelledby]")) {
    if (!document.getElementById(one.getAttribute("aria-labelledby"))) found.push(`points nowhere: ${where(one)}`);
  }

  const numbers = (color) => color.match(/[\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = numbers(color).map((one) => {
      const part = one / 255;
      return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      const [, , , alpha = 1] = numbers(color);
      if (alpha === 1) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const parent = texts.currentNode.parentElement;
    const style = getComputedStyle(parent);
    if (!texts.currentNode.textContent.trim() || !parent.checkVisibility() || parent.closest(".hidden")) continue;
    const [a, b] = [light(style.color), light(ground(parent))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (ratio < needed) found.push(`contrast ${ratio.toFixed(2)}: ${texts.currentNode.textContent.trim().slice(0, 40)}`);
  }
  // A shape must stand out from its ground by 3 to 1.
  for (const shape of all("rect, polyline.line")) {
    const style = getComputedStyle(shape);
    const color = shape.tagName === "rect" ? style.fill : style.stroke;
    const [a, b] = [light(color), light(ground(shape.closest("figure")))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 3) found.push(`contrast ${ratio.toFixed(2)} of a ${shape.getAttribute("class")} shape`);
  }
  const over = document.documentElement.scrollWidth - innerWidth;
  if (over > 0) found.push(`wider than the window by ${over} px`);
  return [...new Set(found)];
}
