/* Small tools of the page: elements made without markup, numbers as text, copying, light and dark.

Text from configs, folders and errors comes into the page by textContent alone: a name with markup in it shows as text.
*/
"use strict";

const Dom = (() => {
  const byId = (id) => document.getElementById(id);

  /** An element with attributes (functions are listeners) and children, strings as text. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
  }

  /** A number with so many decimals as show two digits of its error; four digits without one. */
  function number(value, error) {
    if (value == null || Number.isNaN(value)) return "–";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    let text;
    if (error) {
      const places = Math.max(0, 1 - Math.floor(Math.log10(error)));
      text = places > 6 ? value.toPrecision(4) : value.toFixed(places);
    } else if (Number.isInteger(value) && Math.abs(value) < 1e7) text = String(value);
    else text = String(Number(value.toPrecision(4)));
    return text.replace("-", "−");
  }

  /** Copy text, by the clipboard where the browser grants it to a page from the disk, else by a selection; says so on the button. */
  async function copy(text, button) {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", { style: "position:fixed;left:-999px" });
      area.value = text;
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
    }
    const before = button.textContent;
    button.textContent = done ? "Copied" : "Not copied";
    setTimeout(() => (button.textContent = before), 1200);
  }

  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  /** A colour of the style sheet. */
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const themed = []; // what is drawn again when light turns to dark

  function startTheme() {
    const redraw = () => themed.forEach((draw) => draw());
    byId("theme").addEventListener("click", () => {
      document.documentElement.dataset.theme = isDark() ? "light" : "dark";
      redraw();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  }

  return { byId, make, number, copy, isDark, colour, startTheme, onTheme: (draw) => themed.push(draw) };
})();
