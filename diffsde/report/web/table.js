/* The table of results: sorted by a click on a column's title, filtered by words. */
"use strict";

const Table = (() => {
  const { byId, make, number } = Dom;
  const ARROWS = { lower: "↓", higher: "↑" };
  let data, order, listeners = [];

  /** A word of the filter: key=value, key<number, key>number, or any text; a row passes where all words hold. */
  function passes(row, word) {
    const found = /^([^=<>]+)(<=|>=|=|<|>)(.*)$/.exec(word);
    if (!found) return rowText(row).includes(word.toLowerCase());
    const [, typed, sign, wanted] = found;
    const named = (all) => Object.keys(all).find((key) => key.toLowerCase() === typed.toLowerCase());
    const value = row.keys[named(row.keys)] ?? row.figures[named(row.figures)]?.value;
    if (value == null) return false;
    if (sign === "=") return String(value).toLowerCase() === wanted.toLowerCase();
    const a = Number(value), b = Number(wanted);
    if (wanted === "" || Number.isNaN(a) || Number.isNaN(b)) return false;
    return { "<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b }[sign];
  }

  const rowText = (row) => Object.entries(row.keys).map(([key, value]) => `${key}=${value}`).join(" ").toLowerCase();

  /** The numbers of the rows that are shown, in the order in which they are. */
  function shown() {
    const words = byId("filter").value.trim().split(/\s+/).filter(Boolean);
    const kept = data.rows.map((_, i) => i).filter((i) => words.every((word) => passes(data.rows[i], word)));
    if (!order) return kept;
    const value = (i) => (order.key ? data.rows[i].keys[order.name] : data.rows[i].figures[order.name]?.value);
    return kept.sort((i, j) => compare(value(i), value(j), order.down) || i - j);
  }

  /** Numbers before words, and what is missing at the end, whichever way. */
  function compare(a, b, down) {
    const missing = (each) => each == null || each === "" || Number.isNaN(each);
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const x = Number(a), y = Number(b), sign = down ? -1 : 1;
    if (!Number.isNaN(x) && !Number.isNaN(y)) return sign * (x - y);
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    return sign * String(a).localeCompare(String(b));
  }

  function head() {
    const title = (name, label, isKey, small) => {
      const on = order && order.name === name && order.key === isKey;
      const arrow = on ? (order.down ? " ▼" : " ▲") : "";
      return make(
        "th",
        { scope: "col", class: isKey ? "key" : null, "aria-sort": on ? (order.down ? "descending" : "ascending") : "none" },
        make("button", { type: "button", click: () => sortBy(name, isKey), "data-column": name }, label + arrow),
        small ? make("small", {}, small) : null,
      );
    };
    const keys = data.keys.map((name) => title(name, name, true));
    const figures = data.columns.map((column) =>
      title(column.name, column.label, false, [column.unit, ARROWS[column.direction] || ""].filter(Boolean).join(" ")),
    );
    return make("thead", {}, make("tr", {}, ...keys, ...figures));
  }

  function sortBy(name, isKey) {
    const again = order && order.name === name && order.key === isKey;
    order = { name, key: isKey, down: again ? !order.down : false };
    draw();
    document.querySelector(`#table [data-column="${CSS.escape(name)}"]`)?.focus();
  }

  function cell(row, i, column) {
    const figure = row.figures[column.name];
    if (!figure) return make("td", {}, "");
    const best = data.best[column.name] === i, { value, error, sd, n, reference } = figure;
    if (column.cost) return make("td", { title: sd ? `sd ${number(sd, sd)} of ${n}` : null }, String(Number(value.toPrecision(3))));
    const folded = n > 1 && sd != null, spread = folded ? sd : error; // seeds: mean ± sd (n), as everywhere; else the figure's own error
    const text = number(value, spread || error) + (spread ? ` ± ${number(spread, spread)}` : "") + (folded ? ` (${n})` : "");
    const notes = [];
    if (folded && error) notes.push(`standard error ${number(error, error)}`);
    if (reference) notes.push(`${reference.kind} ${number(reference.value, spread || error || reference.error)}`);
    return make("td", { class: best ? "best" : null }, best ? `★ ${text}` : text, notes.length ? make("small", {}, notes.join(" · ")) : null);
  }

  function body(rows) {
    return make(
      "tbody",
      {},
      ...rows.map((i) => {
        const row = data.rows[i];
        const keys = data.keys.map((name) => make("td", { class: "key", title: row.keys[name] }, row.keys[name] ?? ""));
        const first = keys[0] || make("td", { class: "key" }, data.jobs[row.jobs[0]]?.title ?? "");
        if (row.jobs.length) first.replaceChildren(make("a", { href: `#run-${row.jobs[0]}`, click: () => Runs.open(row.jobs[0]) }, first.textContent || "–"));
        const rest = keys.length ? keys : [first];
        return make("tr", { "data-row": i }, ...rest, ...data.columns.map((column) => cell(row, i, column)));
      }),
    );
  }

  function draw() {
    const rows = shown();
    if (!data.keys.length && data.rows.length) {
      byId("table").replaceChildren(head(), body(rows));
      byId("table").querySelector("thead tr").prepend(make("th", { class: "key", scope: "col" }, "run"));
    } else byId("table").replaceChildren(head(), body(rows));
    byId("shown").textContent = rows.length === data.rows.length ? `${rows.length} rows` : `${rows.length} of ${data.rows.length} rows`;
    byId("filter").parentElement.parentElement.hidden = data.rows.length < 2;
    listeners.forEach((tell) => tell(rows));
  }

  function start(report) {
    data = report;
    const remarks = data.remarks.map((line) => make("p", { class: line.startsWith("best") ? "best" : null }, line));
    byId("remarks").replaceChildren(...remarks);
    byId("filter").addEventListener("input", draw);
    draw();
  }

  return { start, shown, onChange: (tell) => listeners.push(tell) };
})();
