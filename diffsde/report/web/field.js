/* Fields and laws, evaluated in the page: the exact field of a Gaussian mixture, and a trained MLP from its weights.

Everything here is in the model's units and float64, for points of at most two coordinates; a point on a line has a second
coordinate of 0, of which nothing depends. Times are the nodes of a grid that comes with the page, with the path's
coefficients at each, so that no path's formula is written twice. The names are those of diffsde's own modules
(mixtures.predict, predictions.from_network, predictions.convert), which a test holds this file against.
*/
"use strict";

const Fields = (() => {
  /** The numbers of a base64 text: type is "f32", "f64", "i16" or "u8", little endian as every machine with a browser is. */
  function unpack(text, type) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const kinds = { f32: Float32Array, f64: Float64Array, i16: Int16Array, u8: Uint8Array };
    return new kinds[type](bytes.buffer);
  }

  /** The path's coefficients at node j of a grid {t, alpha, beta, dalpha, dbeta, beta_dbeta}, arrays over the nodes. */
  function coefficients(grid, j) {
    const { alpha, beta, dalpha, dbeta, beta_dbeta } = grid;
    return { alpha: alpha[j], beta: beta[j], dalpha: dalpha[j], dbeta: dbeta[j], beta_dbeta: beta_dbeta[j] };
  }

  /** A law sum_k w_k N(mu_k, S_k): spec has means [x, y, ...], covariances [xx, xy, yy, ...] and weights; or equal atoms, points [x, y, ...]. */
  function readLaw(spec) {
    if (spec.points) {
      const means = Float64Array.from(unpack(spec.points, "f32")), K = means.length / 2;
      return { means, covariances: new Float64Array(3 * K), logWeights: new Float64Array(K).fill(-Math.log(K)), flat: spec.dimension === 1 };
    }
    return {
      means: unpack(spec.means, "f64"),
      covariances: unpack(spec.covariances, "f64"),
      logWeights: unpack(spec.weights, "f64").map(Math.log),
      flat: spec.dimension === 1, // the second coordinate is no coordinate: its variance is a number without meaning
    };
  }

  /** log(w_k N(x; m_k, C_k)) and C_k^-1 (x - m_k) of every component of p_t, C_k = alpha^2 S_k + beta^2 I. */
  function components(law, x, c) {
    const K = law.logWeights.length;
    const logs = new Float64Array(K), gx = new Float64Array(K), gy = new Float64Array(K);
    const a2 = c.alpha * c.alpha, b2 = c.beta * c.beta;
    for (let k = 0; k < K; k++) {
      const xx = a2 * law.covariances[3 * k] + b2, xy = a2 * law.covariances[3 * k + 1];
      const yy = law.flat ? 1 : a2 * law.covariances[3 * k + 2] + b2;
      const dx = x[0] - c.alpha * law.means[2 * k], dy = law.flat ? 0 : x[1] - c.alpha * law.means[2 * k + 1];
      const det = xx * yy - xy * xy;
      gx[k] = (yy * dx - xy * dy) / det;
      gy[k] = (xx * dy - xy * dx) / det;
      logs[k] = law.logWeights[k] - (dx * gx[k] + dy * gy[k] + Math.log(det)) / 2 - (law.flat ? 1 : 2) * 0.9189385332046727;
    }
    return { logs, gx, gy };
  }

  function logSumExp(logs) {
    let most = -Infinity;
    for (const value of logs) if (value > most) most = value;
    if (most === -Infinity) return most;
    let sum = 0;
    for (const value of logs) sum += Math.exp(value - most);
    return most + Math.log(sum);
  }

  /** Velocity and score of the exact field, and log p_t(x) (mixtures.predict). */
  function exact(law, x, c) {
    const { logs, gx, gy } = components(law, x, c);
    const total = logSumExp(logs);
    const velocity = [0, 0], score = [0, 0];
    for (let k = 0; k < logs.length; k++) {
      const r = Math.exp(logs[k] - total);
      if (!(r > 0)) continue;
      const S = law.covariances, rate = c.alpha * c.dalpha;
      score[0] -= r * gx[k];
      score[1] -= r * gy[k];
      velocity[0] += r * (c.dalpha * law.means[2 * k] + rate * (S[3 * k] * gx[k] + S[3 * k + 1] * gy[k]) + c.beta_dbeta * gx[k]);
      velocity[1] += r * (c.dalpha * law.means[2 * k + 1] + rate * (S[3 * k + 1] * gx[k] + S[3 * k + 2] * gy[k]) + c.beta_dbeta * gy[k]);
    }
    if (law.flat) velocity[1] = score[1] = 0;
    return { velocity, score, logDensity: total };
  }

  const root = Math.sqrt(2 / Math.PI);
  const ACTIVATIONS = {
    silu: (v) => v / (1 + Math.exp(-v)),
    gelu: (v) => (v / 2) * (1 + Math.tanh(root * (v + 0.044715 * v * v * v))),
    relu: (v) => Math.max(v, 0),
    selu: (v) => 1.0507009873554805 * (v > 0 ? v : 1.6732632423543772 * Math.expm1(v)),
    tanh: Math.tanh,
    softplus: (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v))),
  };

  /** kernel^T h + bias: kernel (m, n) row by row. */
  function dense(layer, h) {
    const n = layer.bias.length, out = Float64Array.from(layer.bias);
    for (let i = 0; i < h.length; i++) {
      const value = h[i];
      if (value === 0) continue;
      for (let j = 0, at = i * n; j < n; j++, at++) out[j] += value * layer.kernel[at];
    }
    return out;
  }

  function readLayer(spec) {
    return { kernel: unpack(spec.kernel, "f32"), bias: unpack(spec.bias, "f32") };
  }

  function readNetwork(spec) {
    const layers = spec.layers.map(readLayer);
    const skip = spec.skip_in && { into: readLayer(spec.skip_in), out: readLayer(spec.skip_out), gate: readLayer(spec.gate) };
    return { ...spec, layers, skip, label: spec.label ? unpack(spec.label, "f32") : null };
  }

  /** cos(k x), sin(k x) for k = 1..count: all cosines, frequency by frequency, then all sines (layers.fourier_features). */
  function fourier(values, count) {
    const cosines = [], sines = [];
    for (let k = 1; k <= count; k++) {
      for (const value of values) {
        cosines.push(Math.cos(k * value));
        sines.push(Math.sin(k * value));
      }
    }
    return [...cosines, ...sines];
  }

  /** The output of the perceptron (nets/mlp.py) for an input of `dimension` coordinates at time t. */
  function network(net, x, t) {
    const flat = x.slice(0, net.dimension);
    const time = net.time_frequencies ? fourier([Math.PI * t], net.time_frequencies) : [t];
    let h = [...flat, ...fourier(flat, net.space_frequencies), ...time];
    const last = net.layers.length - 1, activation = ACTIVATIONS[net.activation];
    for (let i = 0; i < last; i++) {
      h = dense(net.layers[i], h);
      if (i === 0 && net.label) for (let j = 0; j < h.length; j++) h[j] += net.label[j];
      for (let j = 0; j < h.length; j++) h[j] = activation(h[j]);
    }
    const out = dense(net.layers[last], h);
    if (net.skip) {
      const gate = dense(net.skip.gate, h), inner = dense(net.skip.into, flat).map((value, j) => value * gate[j]);
      const more = dense(net.skip.out, inner);
      for (let j = 0; j < out.length; j++) out[j] += more[j];
    }
    return [out[0], net.dimension > 1 ? out[1] : 0];
  }

  /** (a, b) of a prediction y = a z + b eps (predictions.row). */
  function row(kind, c) {
    return { data: [1, 0], noise: [0, 1], velocity: [c.dalpha, c.dbeta], v: [-c.beta, c.alpha] }[kind];
  }

  /** The `target` prediction from the `source` prediction at one coordinate (predictions.convert). */
  function convert(value, x, c, source, target) {
    if (source === target) return value;
    if (source === "score") return convert(-c.beta * value, x, c, "noise", target);
    if (target === "score") return -convert(value, x, c, source, "noise") / c.beta;
    const [a, b] = row(source, c), [a2, b2] = row(target, c);
    return ((a2 * b - b2 * a) * x + (c.alpha * b2 - c.beta * a2) * value) / (c.alpha * b - c.beta * a);
  }

  /** Velocity and score of a trained field (fields.NetworkField.output). */
  function learned(net, x, t, c) {
    const pair = (of) => [of(0), net.dimension > 1 ? of(1) : 0];
    if (!net.precondition) {
      const value = network(net, x, t);
      return {
        velocity: pair((i) => convert(value[i], x[i], c, net.prediction, "velocity")),
        score: pair((i) => convert(value[i], x[i], c, net.prediction, "score")),
      };
    }
    const std = net.std, scale = Math.hypot(c.alpha * std, c.beta);
    const centred = x.map((value, i) => (value - c.alpha * (net.mean[i] || 0)) / scale);
    const out = network(net, centred, t);
    const data = pair((i) => net.mean[i] + (std / scale) * (c.alpha * std * centred[i] + c.beta * out[i]));
    const noise = pair((i) => (c.beta * centred[i] - c.alpha * std * out[i]) / scale);
    return { velocity: pair((i) => c.dalpha * data[i] + c.dbeta * noise[i]), score: pair((i) => -noise[i] / c.beta) };
  }

  /** A grid from its packed numbers. */
  function readGrid(spec) {
    return Object.fromEntries(Object.entries(spec).map(([name, text]) => [name, unpack(text, "f64")]));
  }

  /** A field from its spec: at(x, j) gives {velocity, score} at node j of the grid. */
  function makeField(spec, grid) {
    if (spec.kind === "mixture") {
      const law = readLaw(spec);
      return { at: (x, j) => exact(law, x, coefficients(grid, j)) };
    }
    const net = readNetwork(spec);
    return { at: (x, j) => learned(net, x, grid.t[j], coefficients(grid, j)) };
  }

  /** Standard normal numbers from a seed: the same on every machine (mulberry32, then Box-Muller). */
  function normals(seed, count) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 15), z | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return ((z ^ (z >>> 14)) >>> 0) / 4294967296;
    };
    return Float64Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
  }

  /** The trajectory of the ODE from x at node `from` to node `to`, later or earlier: [x, y, x, y, ...] node by node.

  Heun's steps. A step that has the grid's end at one side is made from its other side alone, since the velocity of some
  paths and networks is infinite there.
  */
  function ode(field, grid, x, from, to) {
    const way = [...x], sign = to < from ? -1 : 1, end = grid.t.length - 1;
    let here = x;
    for (let j = from; j !== to; j += sign) {
      const h = grid.t[j + sign] - grid.t[j];
      const first = field.at(here, j === end ? j + sign : j).velocity;
      let slope = first;
      if (j !== end && j + sign !== end) {
        const second = field.at([here[0] + h * first[0], here[1] + h * first[1]], j + sign).velocity;
        slope = [(first[0] + second[0]) / 2, (first[1] + second[1]) / 2];
      }
      here = [here[0] + h * slope[0], here[1] + h * slope[1]];
      way.push(...here);
    }
    return way;
  }

  /** The trajectory of the SDE dX = [u + sigma_t^2/2 s] dt + sigma_t dW from node `from` to the end, by stochastic Heun.

  rates: sigma_t/sigma at the nodes. noise: two normals a node of the whole grid, so that another sigma bends the same path;
  sigma = 0 is the ODE. The last step is one of Euler's without noise: the field may be infinite at the end.
  */
  function sde(field, grid, rates, sigma, x, from, noise) {
    const way = [...x], end = grid.t.length - 1;
    const drift = (at, j) => {
      const { velocity, score } = field.at(at, j), half = (sigma * rates[j]) ** 2 / 2;
      return half ? velocity.map((u, i) => u + half * score[i]) : velocity; // a score that is not needed may be infinite
    };
    let here = x;
    for (let j = from; j < end; j++) {
      const h = grid.t[j + 1] - grid.t[j], last = j === end - 1, first = drift(here, j);
      const kick = (rate) => (i) => (last ? 0 : sigma * rate * Math.sqrt(h) * noise[2 * j + i]);
      const tried = here.map((value, i) => value + h * first[i] + kick(rates[j])(i));
      if (last) here = tried;
      else {
        const second = drift(tried, j + 1), both = kick((rates[j] + rates[j + 1]) / 2);
        here = here.map((value, i) => value + (h / 2) * (first[i] + second[i]) + both(i));
      }
      way.push(...here);
    }
    return way;
  }

  /** p_t at the middles of columns x rows pixels of the window {left, right, bottom, top}, row by row from the top.

  smoothing: a variance added to p_t's own, for a law of points that stand for others. Of isotropic components the two
  directions are summed apart, a product of one-dimensional Gaussians a component.
  */
  function density(law, c, smoothing, window, columns, rows) {
    const found = new Float64Array(columns * rows), S = law.covariances, K = law.logWeights.length;
    const xs = Float64Array.from({ length: columns }, (_, i) => window.left + ((i + 0.5) / columns) * (window.right - window.left));
    const ys = Float64Array.from({ length: rows }, (_, i) => window.top - ((i + 0.5) / rows) * (window.top - window.bottom));
    const a2 = c.alpha * c.alpha, b2 = c.beta * c.beta + smoothing;
    const along = new Float64Array(columns);
    for (let k = 0; k < K; k++) {
      const xx = a2 * S[3 * k] + b2, xy = a2 * S[3 * k + 1], yy = a2 * S[3 * k + 2] + b2;
      const mx = c.alpha * law.means[2 * k], my = c.alpha * law.means[2 * k + 1];
      const det = xx * yy - xy * xy, weight = Math.exp(law.logWeights[k]) / Math.sqrt(det);
      if (xy === 0) {
        for (let i = 0; i < columns; i++) along[i] = weight * Math.exp((-(xs[i] - mx) * (xs[i] - mx)) / (2 * xx));
        for (let j = 0; j < rows; j++) {
          const up = Math.exp((-(ys[j] - my) * (ys[j] - my)) / (2 * yy));
          if (up < 1e-12) continue;
          for (let i = 0, at = j * columns; i < columns; i++, at++) found[at] += up * along[i];
        }
        continue;
      }
      for (let j = 0, at = 0; j < rows; j++) {
        const dy = ys[j] - my;
        for (let i = 0; i < columns; i++, at++) {
          const dx = xs[i] - mx;
          found[at] += weight * Math.exp(-(yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / (2 * det));
        }
      }
    }
    return found;
  }

  return { unpack, coefficients, readLaw, readGrid, exact, makeField, normals, ode, sde, density };
})();

if (typeof module !== "undefined") module.exports = Fields; // for node, by which the test evaluates the same code
