/* The chart: a figure of the rows that the table shows, against a choice or a cost, drawn by Plotly. */
"use strict";

const Chart = (() => {
  const { byId, make, colour } = Dom;
  const COLOURS = ["#1f77d0", "#d9631e", "#2a9d5c", "#a34bc4", "#c23b4b", "#8a6d1c", "#1899a8", "#6b7280"];
  const SYMBOLS = ["circle", "square", "diamond", "cross", "triangle-up", "x", "star", "triangle-down"];
  const NAMED = 12; // lines that the legend names one by one; of more it names the colours alone
  let data, selects;

  /** Text for Plotly, which reads a little markup: shown as it is. */
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function select(label, id, choices, chosen) {
    const list = make("select", { id, change: draw }, ...choices.map(([value, text]) => make("option", { value, selected: value === chosen }, text)));
    byId("chart-controls").append(make("label", {}, `${label} `, list));
    return list;
  }

  /** The value of a row's choice or cost; a number where it can be read as one. */
  function valueOf(row, name) {
    if (name.startsWith("key:")) {
      const text = row.keys[name.slice(4)];
      return text == null || text === "" ? null : Number.isNaN(Number(text)) ? text : Number(text);
    }
    return row.figures[name.slice(7)]?.value ?? null;
  }

  /** The rows in series: of one, all choices but the one on the axis are the same. */
  function series(rows, x) {
    const found = new Map();
    for (const row of rows) {
      const rest = JSON.stringify(data.keys.filter((key) => `key:${key}` !== x).map((key) => row.keys[key]));
      if (!found.has(rest)) found.set(rest, []);
      found.get(rest).push(row);
    }
    return x.startsWith("key:") ? [...found.values()] : rows.map((row) => [row]); // a cost is no choice: its points stand alone
  }

  function draw() {
    if (!data) return;
    const y = data.columns.find((column) => column.name === selects.y.value);
    const x = selects.x.value, by = selects.by.value;
    const rows = Table.shown().map((i) => data.rows[i]).filter((row) => row.figures[y.name]?.value != null && valueOf(row, x) != null);
    const numeric = rows.every((row) => typeof valueOf(row, x) === "number");
    const names = [...new Set(rows.map((row) => (by ? row.keys[by] ?? "" : "")))], named = new Set();
    const lines = series(rows, x), others = data.keys.filter((key) => `key:${key}` !== x);
    const each = x.startsWith("key:") && lines.length <= NAMED;
    const words = (row) => others.map((key) => `${key}=${row.keys[key] ?? ""}`).join(" ");
    const traces = lines.map((members, k) => {
      if (numeric) members.sort((a, b) => valueOf(a, x) - valueOf(b, x));
      const figures = members.map((row) => row.figures[y.name]), name = by ? members[0].keys[by] ?? "" : "", group = names.indexOf(name);
      const first = !named.has(name);
      named.add(name);
      return {
        type: "scatter",
        mode: numeric && members.length > 1 ? "lines+markers" : "markers",
        name: plain(each ? words(members[0]) : by ? `${by}=${name}` : "all"),
        legendgroup: each ? String(k) : String(group),
        showlegend: each || first,
        x: members.map((row) => (numeric ? valueOf(row, x) : plain(valueOf(row, x)))),
        y: figures.map((figure) => figure.value),
        error_y: { type: "data", array: figures.map((figure) => figure.error || 0), visible: true, thickness: 1.2, width: 3 },
        text: members.map((row) => plain(data.keys.map((key) => `${key}=${row.keys[key] ?? ""}`).join("  "))),
        hovertemplate: "%{text}<br>%{y}<extra></extra>",
        line: { width: 1.2, color: COLOURS[group % COLOURS.length] },
        marker: { color: COLOURS[group % COLOURS.length], symbol: SYMBOLS[k % SYMBOLS.length], size: 9 },
      };
    });
    const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true };
    const title = (text) => ({ text: plain(text) });
    const references = [...new Set(rows.map((row) => row.figures[y.name].reference?.value).filter((value) => value != null))];
    const line = references.length && references.length <= 3 ? references : [];
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("--text"), family: "system-ui, sans-serif", size: 13 },
      margin: { l: 60, r: 16, t: 12, b: 48 },
      xaxis: { ...axis, title: title(x.replace(/^(key|figure):/, "")), type: numeric ? (selects.log.checked ? "log" : "linear") : "category" },
      yaxis: { ...axis, title: title(y.label + (y.unit ? ` [${y.unit}]` : "")), type: selects.logY.checked ? "log" : "linear" },
      showlegend: each ? lines.length > 1 : names.length > 1,
      legend: { orientation: "h", y: 1.12 },
      shapes: line.map((value) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: value, y1: value, line: { dash: "dash", width: 1, color: colour("--soft") } })),
    };
    Plotly.react(byId("plot"), traces, layout, { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] });
  }

  function start(report) {
    const columns = report.columns.filter((column) => report.rows.some((row) => row.figures[column.name]?.value != null));
    const axes = [
      ...report.keys.map((key) => [`key:${key}`, key]),
      ...columns.filter((column) => column.cost).map((column) => [`figure:${column.name}`, column.label]),
    ];
    const ys = columns.filter((column) => !column.cost);
    if (report.rows.length < 2 || !axes.length || !ys.length) return;
    byId("chart").hidden = false;
    data = report;
    const usual = report.keys.find((key) => new Set(report.rows.map((row) => row.keys[key])).size > 1 && report.rows.every((row) => !Number.isNaN(Number(row.keys[key]))));
    selects = {};
    selects.y = select("Figure", "chart-y", ys.map((column) => [column.name, column.label]), ys[0].name);
    selects.x = select("against", "chart-x", axes, usual ? `key:${usual}` : axes[0][0]);
    selects.by = select("by", "chart-by", [["", "nothing"], ...report.keys.map((key) => [key, key])], report.keys.find((key) => key !== usual) || "");
    for (const [name, label] of [["log", "log x"], ["logY", "log y"]]) {
      selects[name] = make("input", { type: "checkbox", id: `chart-${name}`, change: draw });
      byId("chart-controls").append(make("label", {}, selects[name], ` ${label}`));
    }
    Table.onChange(draw);
    Dom.onTheme(draw);
    draw();
  }

  return { start };
})();
