/* The player: two panels of one cloud, sliders over t and sigma, and trajectories from where one clicks; and samples side by side. */
"use strict";

const Player = (() => {
  const { byId, make, number, colour } = Dom;
  const SEEDS = [11, 23, 37, 51]; // of the paths of the SDE from a click; the same at every sigma, which so bends them
  const SECONDS = 5; // from t = 0 to t = 1 when it plays
  let report, players, player, samples;
  let node = 0, sigma = 0, launched = null, playing = null, waiting = false;
  const cursor = { left: null, right: null };
  const sides = ["left", "right"];

  const what = (side) => byId(side).value;
  const canvas = (side) => byId(`${side}-canvas`);

  /** Draw both panels at the next frame of the screen, once, however often it is asked for. */
  function redraw() {
    if (waiting || !player) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; sides.forEach(drawPanel); });
  }

  const isJob = (side) => what(side).startsWith("job:");

  function drawPanel(side) {
    if (isJob(side)) return drawJob(side);
    const { context, w, h } = Cloud.prepare(canvas(side), player.d === 1 ? 0.72 : 1);
    context.drawImage(Cloud.densityImage(player, node), 0, 0, w, h);
    if (byId("arrows").checked && player.field) Cloud.drawArrows(context, player, w, h, node);
    Cloud.drawCloud(context, player, w, h, what(side), sigma, node, byId("trails").checked);
    if (player.d === 1) drawNow(context, w, h);
    if (launched) drawLaunched(context, w, h);
    Cloud.drawAxes(context, player, w, h, node);
    if (cursor[side] && document.activeElement === canvas(side)) drawCursor(context, w, h, cursor[side]);
  }

  /** A panel of a job's samples: at the end, whatever t, and without trajectories. */
  function drawJob(side) {
    const near = Cloud.closeUp(player), { context, w, h } = Cloud.prepare(canvas(side), player.d === 1 ? 0.72 : 1);
    const job = samples.get(Number(what(side).slice(4)));
    if (player.d === 1) return Cloud.drawHistogram(context, near, w, h, job);
    context.drawImage(Cloud.densityImage(near, near.last), 0, 0, w, h);
    Cloud.drawSamples(context, near, w, h, job, 2.2);
    Cloud.drawAxes(context, near, w, h, near.last);
  }

  function drawNow(context, w, h) {
    const [x] = Cloud.place(player, w, h, node, 0, 0);
    Object.assign(context, { strokeStyle: colour("--soft"), lineWidth: 1 });
    context.strokeRect(x, -2, 0, h + 4);
  }

  function drawLaunched(context, w, h) {
    const { from, ode, back, sdes } = launched;
    for (const way of sdes) Cloud.drawLine(context, player, w, h, way, from, 1, { strokeStyle: colour("--launched"), lineWidth: 1.6 });
    for (const [way, sign] of [[ode, 1], [back, -1]]) {
      Cloud.drawLine(context, player, w, h, way, from, sign, { strokeStyle: colour("--back"), lineWidth: 5 });
      Cloud.drawLine(context, player, w, h, way, from, sign, { strokeStyle: colour("--text"), lineWidth: 2.4 });
    }
    const [x, y] = Cloud.place(player, w, h, from, ...launched.own, 0);
    context.fillStyle = colour("--text");
    context.beginPath();
    context.arc(x, y, 4.5, 0, 7);
    context.fill();
  }

  function drawCursor(context, w, h, { u, v }) {
    Object.assign(context, { strokeStyle: colour("--launched"), lineWidth: 1.5 });
    context.beginPath();
    for (const [dx, dy] of [[12, 0], [0, 12]]) {
      context.moveTo(u * w - dx, v * h - dy);
      context.lineTo(u * w + dx, v * h + dy);
    }
    context.stroke();
  }

  /** Launch the ODE, both ways, and the SDE from a point in the data's own units at a node. */
  function launch(own, from) {
    if (!player.field) {
      byId("click").textContent = `No trajectory from a click: ${player.spec.field_note}.`;
      return;
    }
    const x = [player.model(own[0], 0), player.d > 1 ? player.model(own[1], 1) : 0];
    launched = { own, from, x, noise: SEEDS.map((seed) => Fields.normals(seed, 2 * player.last)) };
    launched.ode = Fields.ode(player.field, player.grid, x, from, player.last);
    launched.back = Fields.ode(player.field, player.grid, x, from, 0);
    byId("clear").hidden = false;
    relaunch();
  }

  /** The SDE's paths from the launched point at the sigma of now, and what is said of it all. */
  function relaunch() {
    if (!launched) return;
    const { from, x, noise } = launched;
    launched.sdes = sigma > 0 && from < player.last ? noise.map((each) => Fields.sde(player.field, player.grid, player.rates, sigma, x, from, each)) : [];
    byId("click").textContent = described();
    redraw();
  }

  const vector = (values) => `(${values.slice(0, player.d).map((value) => number(Number(value.toPrecision(3)))).join(", ")})`;
  const ownEnd = (way) => [0, 1].slice(0, player.d).map((c) => player.own(way[way.length - 2 + c], c));

  function described() {
    const { from, own, ode, back, sdes, x } = launched;
    const { velocity } = player.field.at(x, Math.min(from, player.last - 1)), std = player.spec.scaling?.std || [1, 1];
    const sde = sdes.length ? ` The SDE, σ = ${number(sigma)}, ends at ${sdes.map((way) => vector(ownEnd(way))).join(" ")}.` : from < player.last ? " Drag σ for the SDE." : "";
    return `From ${vector(own)} at t = ${number(player.grid.t[from])}: velocity ${vector(velocity.map((u, c) => u * std[c]))}; the ODE comes from ${vector(ownEnd(back))} and ends at ${vector(ownEnd(ode))}.${sde}`;
  }

  function clear() {
    launched = null;
    byId("clear").hidden = true;
    byId("click").textContent = player.field ? "Click a point (or move with the arrows and press Enter): the ODE and the SDE start there." : `A click launches nothing: ${player.spec.field_note}.`;
    redraw();
  }

  function setNode(value) {
    node = Math.max(0, Math.min(player.last, Math.round(value)));
    byId("t").value = node;
    byId("t-value").textContent = player.grid.t[node].toFixed(3);
    redraw();
  }

  function setSigma(value) {
    sigma = value;
    byId("sigma-value").textContent = value.toFixed(2);
    relaunch();
    redraw();
  }

  function play(on) {
    if (playing) cancelAnimationFrame(playing);
    playing = null;
    byId("play").setAttribute("aria-pressed", String(on));
    byId("play").textContent = on ? "❚❚ pause" : "▶ play";
    if (!on) return;
    if (node >= player.last) setNode(0);
    let before = null;
    let position = node;
    const tick = (now) => {
      position += before === null ? 0 : ((now - before) / 1000 / SECONDS) * player.last;
      before = now;
      setNode(position);
      if (node >= player.last) return play(false);
      playing = requestAnimationFrame(tick);
    };
    playing = requestAnimationFrame(tick);
  }

  /** What a panel may show: the conditional paths, the ODE, the SDE, and the samples of jobs of the chosen field. */
  function options(index) {
    const jobs = [...samples.keys()].filter((i) => report.jobs[i].player === index);
    return [
      ["conditional", "conditional paths  αz + βε"],
      ["ode", "ODE, σ = 0"],
      ["sde", "SDE, σ of the slider"],
      ...jobs.map((i) => [`job:${i}`, `samples of ${report.jobs[i].title}`]),
    ];
  }

  function choose(index, left = "conditional", right = "sde") {
    play(false);
    if (!players[index]) players[index] = Cloud.read(report.players[index]);
    player = players[index];
    byId("of").value = String(index);
    for (const [side, usual] of [["left", left], ["right", right]]) {
      byId(side).replaceChildren(...options(index).map(([value, text]) => make("option", { value }, text)));
      byId(side).value = usual;
      canvas(side).setAttribute("aria-label", `The cloud of ${player.spec.title}. The arrow keys move a cross, Enter launches trajectories from it, space plays.`);
    }
    byId("t").max = player.last;
    const most = player.spec.sigmas[player.spec.sigmas.length - 1];
    byId("sigma").max = most;
    byId("sigma").disabled = !most;
    byId("sigma").value = Math.min(sigma || 0.5, most);
    byId("arrows").disabled = !player.field;
    const parts = [player.spec.law_note, `σ_t: ${player.spec.diffusion}`, player.spec.note, player.spec.field_note, Cloud.zooms(player) ? "the window follows the scale of x_t" : ""];
    byId("player-note").textContent = `${parts.filter(Boolean).join("; ")}. Colours: where the noise began. The same noise at every σ, which bends the same paths.`;
    clear();
    setSigma(Number(byId("sigma").value));
    setNode(Math.min(node || player.last, player.last));
  }

  function listen() {
    byId("of").addEventListener("change", (event) => choose(Number(event.target.value)));
    byId("t").addEventListener("input", (event) => { play(false); setNode(Number(event.target.value)); });
    byId("sigma").addEventListener("input", (event) => setSigma(Number(event.target.value)));
    byId("play").addEventListener("click", () => play(!playing));
    byId("clear").addEventListener("click", clear);
    for (const id of ["trails", "arrows", ...sides]) byId(id).addEventListener("change", redraw);
    for (const side of sides) {
      const area = canvas(side);
      area.addEventListener("click", (event) => {
        const box = area.getBoundingClientRect();
        launchAt(side, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
      });
      area.addEventListener("keydown", (event) => steer(side, event));
      for (const name of ["focus", "blur"]) area.addEventListener(name, redraw);
    }
    new ResizeObserver(redraw).observe(byId("left-canvas").parentElement);
  }

  function launchAt(side, u, v) {
    if (isJob(side)) return void (byId("click").textContent = "Samples are at their end: click in a panel of paths for trajectories.");
    const { clientWidth: w, clientHeight: h } = canvas(side), { x, node: from } = Cloud.pointAt(player, w, h, node, u * w, v * h);
    launch(x, from);
  }

  function steer(side, event) {
    const moves = { ArrowLeft: [-0.03, 0], ArrowRight: [0.03, 0], ArrowUp: [0, -0.03], ArrowDown: [0, 0.03] }[event.key];
    const place = cursor[side] || { u: 0.5, v: 0.5 };
    if (moves) cursor[side] = { u: Math.min(1, Math.max(0, place.u + moves[0])), v: Math.min(1, Math.max(0, place.v + moves[1])) };
    else if (event.key === "Enter") launchAt(side, place.u, place.v);
    else if (event.key === "Escape") clear();
    else if (event.key === " ") play(!playing);
    else return;
    event.preventDefault();
    redraw();
  }

  /** Samples of the rows side by side: points over the density of the data, which a click shows larger, or images. */
  function cells() {
    const tiles = report.rows.flatMap((row, place) => {
      const i = row.jobs.find((job) => report.jobs[job].images || samples.has(job));
      return i === undefined ? [] : [{ row: place, ...(report.jobs[i].images ? imageTile(row, i) : pointTile(row, i)) }];
    });
    if (!tiles.length || (tiles.length < 2 && !report.jobs.some((job) => job.images))) return;
    byId("cells").hidden = false;
    byId("cells-note").textContent = report.cells_note;
    if (tiles.length === 1) byId("cells-title").textContent = "Samples";
    byId("cell-grid").replaceChildren(...tiles.map(({ tile }) => tile));
    Table.onChange((rows) => tiles.forEach(({ tile, row }) => (tile.hidden = !rows.includes(row))));
    const drawn = new Set();
    const seen = new IntersectionObserver((entries) => entries.forEach((entry) => { // what is far below is not drawn yet
      const found = tiles.find(({ tile }) => tile === entry.target);
      if (entry.isIntersecting && !drawn.has(found)) { drawn.add(found); found.draw(); }
    }), { rootMargin: "200px" });
    tiles.forEach(({ tile }) => seen.observe(tile));
    Dom.onTheme(() => drawn.forEach(({ draw }) => draw()));
  }

  /** What a tile says: the job, and the row's first figure. */
  function caption(row, i) {
    const column = report.columns.find(({ name }) => row.figures[name]?.value != null), figure = column && row.figures[column.name];
    const text = figure && `${column.label} ${number(figure.value, figure.error)}${figure.error ? ` ± ${number(figure.error, figure.error)}` : ""}`;
    return make("span", {}, report.jobs[i].title, text ? make("small", {}, text) : null);
  }

  function pointTile(row, i) {
    const area = make("canvas", { "aria-hidden": "true" }), index = report.jobs[i].player;
    const show = () => { choose(index, "sde", `job:${i}`); byId("player").scrollIntoView(); };
    const draw = () => {
      if (!players[index]) players[index] = Cloud.read(report.players[index]);
      const mine = Cloud.closeUp(players[index]), { context, w, h } = Cloud.prepare(area, mine.d === 1 ? 0.7 : 1);
      if (mine.d === 1) return Cloud.drawHistogram(context, mine, w, h, samples.get(i));
      context.drawImage(Cloud.densityImage(mine, mine.last), 0, 0, w, h);
      Cloud.drawSamples(context, mine, w, h, samples.get(i), 1.2);
    };
    return { draw, tile: make("button", { type: "button", class: "tile", click: show }, area, caption(row, i)) };
  }

  function imageTile(row, i) {
    const area = make("canvas", { role: "img", "aria-label": `samples of ${report.jobs[i].title}` }), images = report.jobs[i].images;
    const draw = () => {
      const { context, w } = Cloud.prepare(area, Cloud.mosaicRatio(images));
      Cloud.drawImages(context, w, images);
    };
    return { draw, tile: make("div", { class: "tile framed" }, area, caption(row, i)) };
  }

  function start(all) {
    report = all;
    samples = new Map(report.jobs.flatMap((job, i) => (job.samples && job.player != null ? [[i, Cloud.readSamples(job.samples)]] : [])));
    if (!report.players.length) {
      if (report.players_note) {
        byId("player").hidden = false;
        [...byId("player").children].slice(1).forEach((part) => (part.hidden = true));
        Object.assign(byId("player-note"), { hidden: false, textContent: report.players_note });
      }
      cells();
      return;
    }
    players = report.players.map(() => null);
    byId("player").hidden = false;
    byId("of").replaceChildren(...report.players.map((each, i) => make("option", { value: i }, each.title)));
    byId("of-label").hidden = report.players.length < 2;
    listen();
    choose(0);
    if (report.players_note) byId("player-note").textContent += ` ${report.players_note}`;
    cells();
    Dom.onTheme(redraw);
  }

  return { start, choose, now: () => ({ node, sigma, launched }) };
})();
