/* A cloud in the page: its states unpacked, places in its window, and how it is drawn on a canvas. No controls, no state. */
"use strict";

const Cloud = (() => {
  const { colour, isDark } = Dom;
  const HUES = 24; // colours of the cloud: where its points began, as an angle (on a line: from the least to the largest)
  const PIXELS = 88; // of the density, along a side

  /** A player's numbers, unpacked once. */
  function read(spec) {
    const grid = Fields.readGrid(spec.grid), d = spec.dimension;
    const [S, F, n] = spec.states.shape, numbers = Fields.unpack(spec.states.numbers, "i16");
    const eps = Fields.unpack(spec.eps, "f32"), z = Fields.unpack(spec.z, "f32");
    const { mean, std } = spec.scaling || { mean: [0, 0], std: [1, 1] };
    const own = (value, c) => mean[c] + std[c] * value;
    const model = (value, c) => (std[c] ? (value - mean[c]) / std[c] : value - mean[c]);
    const state = (s, f, i, c) => own((numbers[((s * F + f) * n + i) * d + c] / 32767) * spec.states.scales[f], c);
    const conditional = (node, i, c) => own(grid.alpha[node] * z[i * d + c] + grid.beta[node] * eps[i * d + c], c);
    const order = d === 1 ? [...eps.keys()].sort((i, j) => eps[i] - eps[j]) : null;
    const rank = order && order.reduce((ranks, i, place) => ((ranks[i] = place), ranks), []);
    const turn = (i) => (d === 1 ? (0.85 * rank[i]) / n : (Math.atan2(eps[2 * i + 1], eps[2 * i]) / (2 * Math.PI) + 1) % 1);
    const hues = Array.from({ length: n }, (_, i) => Math.floor(turn(i) * HUES));
    const field = spec.field && Fields.makeField(spec.field, grid);
    return { spec, grid, d, S, F, n, state, conditional, own, model, hues, field, law: Fields.readLaw(spec.law), rates: Fields.unpack(spec.rates, "f64"), last: grid.t.length - 1, images: new Map() };
  }

  /** The frame at or before a node, and how far the node is on the way to the next. */
  function frameOf(player, node) {
    const kept = player.spec.kept, t = player.grid.t;
    let f = kept.length - 1;
    while (kept[f] > node) f--;
    const next = kept[f + 1];
    return { f, share: next === undefined ? 0 : (t[node] - t[kept[f]]) / (t[next] - t[kept[f]]) };
  }

  const between = (a, b, share) => a + (b - a) * share;

  /** Coordinate c of point i at a frame, at any sigma: between the two nearest sigmas the states are interpolated. */
  function at(player, what, sigma, f, i, c) {
    if (what === "conditional") return player.conditional(player.spec.kept[f], i, c);
    const sigmas = player.spec.sigmas;
    let s = 0;
    if (what === "sde") while (s < sigmas.length - 2 && sigmas[s + 1] <= sigma) s++;
    if (what === "ode" || sigmas.length === 1 || sigma <= 0) return player.state(0, f, i, c);
    const share = Math.min(1, (sigma - sigmas[s]) / (sigmas[s + 1] - sigmas[s]));
    return between(player.state(s, f, i, c), player.state(s + 1, f, i, c), share);
  }

  /** The window's half widths at a node, one a coordinate. */
  function halfAt(player, node) {
    const { f, share } = frameOf(player, node), half = player.spec.window.half;
    return share ? half[f].map((value, c) => between(value, half[f + 1][c], share)) : half[f];
  }

  /** The same player in a window that holds the data alone, for samples. */
  function closeUp(player) {
    const { centre, near, half } = player.spec.window;
    player.near ??= { ...player, images: new Map(), spec: { ...player.spec, window: { centre, half: half.map(() => near) } } };
    return player.near;
  }

  const zooms = (player) => player.spec.window.half.some((half) => half[0] !== player.spec.window.half[0][0]);

  /** The place [x, y] on a canvas of width w and height h of a point at a node; on a line t runs to the right. */
  function place(player, w, h, node, x, y) {
    const { centre } = player.spec.window, half = halfAt(player, node);
    if (player.d === 1) {
      const { t } = player.grid;
      return [((t[node] - t[0]) / (t[player.last] - t[0])) * w, h / 2 - ((x - centre[0]) / half[0]) * (h / 2)];
    }
    return [w / 2 + ((x - centre[0]) / half[0]) * (w / 2), h / 2 - ((y - centre[1]) / half[1]) * (h / 2)];
  }

  /** The point in the data's own units, and the node, at a place on a canvas. */
  function pointAt(player, w, h, node, px, py) {
    const { centre } = player.spec.window;
    if (player.d === 1) {
      const { t } = player.grid, time = t[0] + (px / w) * (t[player.last] - t[0]);
      let j = 0;
      while (j < player.last && t[j + 1] <= time) j++;
      return { x: [centre[0] - ((py - h / 2) / (h / 2)) * halfAt(player, j)[0]], node: j };
    }
    const half = halfAt(player, node);
    return { x: [centre[0] + ((px - w / 2) / (w / 2)) * half[0], centre[1] - ((py - h / 2) / (h / 2)) * half[1]], node };
  }

  /** The window's pixels as an image of a density (rows x columns), the densest strongest. */
  function image(values, columns, rows, most) {
    const canvas = document.createElement("canvas");
    canvas.width = columns;
    canvas.height = rows;
    const pixels = canvas.getContext("2d").createImageData(columns, rows), [r, g, b] = colour("--law").split(",").map(Number);
    for (let i = 0; i < values.length; i++) {
      pixels.data.set([r, g, b, 255 * 0.62 * Math.pow(values[i] / (most[i % columns] || most[0] || 1), 0.55)], 4 * i);
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }

  /** p_t under the cloud: over the window at a node, or on a line over all t; kept, since it is drawn more often than it changes. */
  function densityImage(player, node) {
    const key = `${player.d === 1 ? "line" : node} ${isDark()}`;
    if (!player.images.has(key)) player.images.set(key, player.d === 1 ? lineDensity(player) : planeDensity(player, node));
    return player.images.get(key);
  }

  function planeDensity(player, node) {
    const { centre } = player.spec.window, [x, y] = halfAt(player, node), { model } = player;
    const window = { left: model(centre[0] - x, 0), right: model(centre[0] + x, 0), bottom: model(centre[1] - y, 1), top: model(centre[1] + y, 1) };
    const values = Fields.density(player.law, Fields.coefficients(player.grid, node), player.spec.law.smoothing, window, PIXELS, PIXELS);
    return image(values, PIXELS, PIXELS, [values.reduce((a, b) => Math.max(a, b), 0)]);
  }

  function lineDensity(player) {
    const columns = player.last + 1, rows = 160, values = new Float64Array(columns * rows), most = new Float64Array(columns);
    for (let j = 0; j < columns; j++) {
      const [half] = halfAt(player, j), centre = player.spec.window.centre[0];
      for (let i = 0; i < rows; i++) {
        const x = player.model(centre + half * (1 - (2 * (i + 0.5)) / rows), 0);
        values[i * columns + j] = lineValue(player, x, j);
        most[j] = Math.max(most[j], values[i * columns + j]);
      }
    }
    return image(values, columns, rows, most);
  }

  /** p_t(x) on a line at a node, up to the volume of the data's own units. */
  function lineValue(player, x, node) {
    const c = Fields.coefficients(player.grid, node), smoothing = player.spec.law.smoothing;
    return Math.exp(Fields.exact(player.law, [x, 0], { ...c, beta: Math.sqrt(c.beta ** 2 + smoothing) }).logDensity);
  }

  const tint = (hue) => `hsl(${(360 * hue) / HUES}, ${isDark() ? "75%, 66%" : "70%, 40%"})`;

  /** The paths of a cloud up to a node, and its points there; a colour for where each began. */
  function drawCloud(context, player, w, h, what, sigma, node, trails) {
    const { f, share } = frameOf(player, node), kept = player.spec.kept;
    const groups = Array.from({ length: HUES }, () => []);
    player.hues.forEach((hue, i) => groups[hue].push(i));
    const here = (i, c) => (share ? between(at(player, what, sigma, f, i, c), at(player, what, sigma, f + 1, i, c), share) : at(player, what, sigma, f, i, c));
    groups.forEach((members, hue) => {
      context.strokeStyle = context.fillStyle = tint(hue);
      if (trails) {
        context.globalAlpha = 0.3;
        context.lineWidth = 0.9;
        context.beginPath();
        for (const i of members) {
          for (let g = 0; g <= f; g++) {
            const [x, y] = place(player, w, h, kept[g], at(player, what, sigma, g, i, 0), player.d > 1 ? at(player, what, sigma, g, i, 1) : 0);
            if (g) context.lineTo(x, y);
            else context.moveTo(x, y);
          }
          if (share) context.lineTo(...place(player, w, h, node, here(i, 0), player.d > 1 ? here(i, 1) : 0));
        }
        context.stroke();
      }
      context.globalAlpha = 0.9;
      for (const i of members) {
        const [x, y] = place(player, w, h, node, here(i, 0), player.d > 1 ? here(i, 1) : 0);
        context.beginPath();
        context.arc(x, y, 2.3, 0, 7);
        context.fill();
      }
    });
    context.globalAlpha = 1;
  }

  /** Samples of a job, at their last time. */
  function drawSamples(context, player, w, h, samples, size) {
    context.fillStyle = colour("--text");
    context.globalAlpha = 0.6;
    for (let i = 0; i < samples.n; i++) {
      const [x, y] = place(player, w, h, player.last, samples.at(i, 0), player.d > 1 ? samples.at(i, 1) : 0);
      context.beginPath();
      context.arc(x, y, size, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  /** A histogram of samples on a line, and the density of the data over it. */
  function drawHistogram(context, player, w, h, samples) {
    const bins = 48, centre = player.spec.window.centre[0], [half] = halfAt(player, player.last), counts = new Float64Array(bins);
    for (let i = 0; i < samples.n; i++) counts[Math.floor(((samples.at(i, 0) - centre + half) / (2 * half)) * bins)]++;
    const width = (2 * half) / bins, curve = [];
    for (let i = 0; i <= 160; i++) curve.push(lineValue(player, player.model(centre - half + (2 * half * i) / 160, 0), player.last) / ((player.spec.scaling?.std[0]) || 1));
    const most = 1.08 * Math.max(...curve, ...counts.map((count) => count / samples.n / width));
    context.fillStyle = colour("--soft");
    context.globalAlpha = 0.55;
    counts.forEach((count, i) => {
      const tall = (count / samples.n / width / most) * h;
      context.fillRect((i / bins) * w, h - tall, w / bins - 1, tall);
    });
    context.globalAlpha = 1;
    context.strokeStyle = `rgb(${colour("--law")})`;
    context.lineWidth = 1.6;
    context.beginPath();
    curve.forEach((value, i) => context.lineTo((i / 160) * w, h - (value / most) * h));
    context.stroke();
  }

  function drawLine(context, player, w, h, way, from, sign, style) {
    Object.assign(context, style);
    context.beginPath();
    for (let i = 0; i < way.length / 2; i++) {
      const own = [0, 1].map((c) => (c < player.d ? player.own(way[2 * i + c], c) : 0));
      context.lineTo(...place(player, w, h, from + sign * i, ...own));
    }
    context.stroke();
  }

  /** Arrows of the velocity on a grid of places at a node, their lengths as its root; on a line its slope in t. */
  function drawArrows(context, player, w, h, node) {
    const count = 15, j = Math.min(node, player.last - 1), found = [];
    for (let a = 0; a < count; a++) {
      for (let b = 0; b < count; b++) {
        const px = ((a + 0.5) / count) * w, py = ((b + 0.5) / count) * h, { x } = pointAt(player, w, h, node, px, py);
        const when = player.d === 1 ? Math.min(pointAt(player, w, h, node, px, py).node, player.last - 1) : j;
        const { velocity } = player.field.at([player.model(x[0], 0), player.d > 1 ? player.model(x[1], 1) : 0], when);
        const scale = player.spec.scaling?.std || [1, 1];
        const half = halfAt(player, when), u = velocity.map((value, c) => (value * scale[c]) / half[c]); // in half windows
        const along = player.d === 1 ? [0.5, (-u[0] * h) / w / 4] : [u[0], -u[1]];
        found.push({ px, py, along, length: Math.hypot(...along) });
      }
    }
    const most = Math.max(...found.map((each) => each.length)) || 1;
    context.strokeStyle = colour("--soft");
    context.lineWidth = 1.1;
    context.beginPath();
    for (const { px, py, along, length } of found) {
      if (!Number.isFinite(length) || length < 1e-9 * most) continue;
      const size = (0.85 * w) / count, k = player.d === 1 ? size / length / 1.4 : size / Math.sqrt(length * most), dx = k * along[0], dy = k * along[1], tip = [px + dx / 2, py + dy / 2];
      context.moveTo(px - dx / 2, py - dy / 2);
      context.lineTo(...tip);
      for (const side of [2.6, -2.6]) {
        const angle = Math.atan2(dy, dx) + side, barb = Math.min(5, 0.4 * Math.hypot(dx, dy));
        context.moveTo(...tip);
        context.lineTo(tip[0] + barb * Math.cos(angle), tip[1] + barb * Math.sin(angle));
      }
    }
    context.stroke();
  }

  /** Ticks and names of the axes, inside the frame. */
  function drawAxes(context, player, w, h, node) {
    const { centre } = player.spec.window, half = halfAt(player, node), names = player.spec.names, line = player.d === 1;
    Object.assign(context, { fillStyle: colour("--soft"), font: "11px system-ui, sans-serif", textAlign: "center" });
    const ticks = (c) => {
      const step = niceStep(half[c]), middle = Math.round(centre[c] / step);
      return Array.from({ length: 9 }, (_, k) => (middle + k - 4) * step).map((value) => [value, Dom.number(Number(value.toPrecision(12)))]);
    };
    if (line) for (const t of [0.25, 0.5, 0.75]) context.fillText(String(t), t * w, h - 6);
    else {
      for (const [value, text] of ticks(0)) {
        const [px] = place(player, w, h, node, value, 0);
        if (px > 26 && px < w - 46) context.fillText(text, px, h - 6);
      }
    }
    context.textAlign = "right";
    context.fillText(line ? "t" : names[0], w - 8, h - 6);
    context.textAlign = "left";
    for (const [value, text] of ticks(line ? 0 : 1)) {
      const [, py] = line ? place(player, w, h, node, value, 0) : place(player, w, h, node, 0, value);
      if (py > 26 && py < h - 26) context.fillText(text, 6, py + 4);
    }
    context.fillText(line ? names[0] : names[1], 6, 16);
  }

  /** A round number of which about two fit into half a window. */
  function niceStep(half) {
    const power = 10 ** Math.floor(Math.log10(half / 2)), lead = half / 2 / power;
    return power * (lead >= 5 ? 5 : lead >= 2 ? 2 : 1);
  }

  /** A canvas made as sharp as the screen, cleared; its context in CSS pixels, width and height. */
  function prepare(canvas, ratio) {
    const w = canvas.clientWidth, h = Math.round(w * ratio), scale = window.devicePixelRatio || 1;
    canvas.style.height = `${h}px`;
    canvas.width = Math.round(w * scale);
    canvas.height = Math.round(h * scale);
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.imageSmoothingQuality = "high";
    return { context, w, h };
  }

  /** Images of a job, bytes, as one mosaic. */
  function drawImages(context, w, spec) {
    const [n, H, W, C] = spec.shape, bytes = Fields.unpack(spec.bytes, "u8"), columns = Math.ceil(Math.sqrt(n));
    const whole = document.createElement("canvas");
    Object.assign(whole, { width: columns * W, height: Math.ceil(n / columns) * H });
    const inner = whole.getContext("2d");
    for (let i = 0; i < n; i++) {
      const pixels = inner.createImageData(W, H);
      for (let p = 0; p < H * W; p++) {
        const value = (c) => bytes[(i * H * W + p) * C + (C === 3 ? c : 0)];
        pixels.data.set([value(0), value(1), value(2), 255], 4 * p);
      }
      inner.putImageData(pixels, (i % columns) * W, Math.floor(i / columns) * H);
    }
    context.imageSmoothingEnabled = false;
    context.drawImage(whole, 0, 0, w, (w * whole.height) / whole.width);
  }

  /** Height over width of the mosaic. */
  function mosaicRatio({ shape: [n, H, W] }) {
    const columns = Math.ceil(Math.sqrt(n));
    return (Math.ceil(n / columns) * H) / (columns * W);
  }

  /** Samples of a job, unpacked: at(i, c) in the data's own units. */
  function readSamples(spec) {
    const [, n, d] = spec.shape, numbers = Fields.unpack(spec.numbers, "i16");
    return { n, at: (i, c) => spec.offset[c] + (numbers[i * d + c] / 32767) * spec.scales[0] };
  }

  return { read, readSamples, at, frameOf, halfAt, closeUp, zooms, place, pointAt, densityImage, drawCloud, drawSamples, drawImages, mosaicRatio, drawHistogram, drawLine, drawArrows, drawAxes, prepare };
})();
