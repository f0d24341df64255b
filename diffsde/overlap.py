"""How far the components of a Gaussian mixture overlap, by integrals on the host in float64: its entropy, and how sure one can
be of the component of a point.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

REACH = 9.0  # standard deviations about a component within which it is integrated: what is left out is below 1e-18
TOLERANCE = 1e-7  # nats, of the quadrature's own estimate of its error
NEGLECTED = 1e-12  # nats: a bound on what one component changes in another's integral, below which it is left out
NODES = 12  # of a Gauss-Legendre rule along an axis of a cell
WORK = 2e7  # densities of components at points that the quadrature may take: about a second
DRAWS, NUMBERS = 2**17, 2**25  # of the Monte Carlo, and numbers about which it stays


class Estimate(NamedTuple):
    """A number and its error: the quadrature's own estimate, or one standard error of a Monte Carlo."""

    value: float
    error: float


class Overlap(NamedTuple):
    """entropy -E log p in nats; own (K,): E[r_k(x)] over x of component k, 1 where nothing overlaps; own_error (K,)."""

    entropy: Estimate
    own: np.ndarray
    own_error: np.ndarray


class Law(NamedTuple):
    """means (K, d), roots L_k (K, d, d) or their diagonals (K, d) with S_k = L_k L_k^T, weights (K,) above 0."""

    means: np.ndarray
    roots: np.ndarray
    weights: np.ndarray

    @property
    def rotated(self) -> bool:
        return self.roots.ndim == 3

    def scales(self) -> np.ndarray:
        """log det L_k, (K,)."""
        return np.linalg.slogdet(self.roots)[1] if self.rotated else np.log(self.roots).sum(axis=1)

    def place(self, k: int, u: np.ndarray) -> np.ndarray:
        """mu_k + L_k u for u (n, d)."""
        return self.means[k] + (u @ self.roots[k].T if self.rotated else u * self.roots[k])

    def log_densities(self, x: np.ndarray, among: np.ndarray) -> np.ndarray:
        """log w_j + log N(x; mu_j, S_j) + d/2 log 2 pi of these components, (n, len(among)), for x (n, d)."""
        constants, found = np.log(self.weights) - self.scales(), np.empty((len(x), len(among)))
        for column, j in enumerate(among):
            y = x - self.means[j]
            y = np.linalg.solve(self.roots[j], y.T).T if self.rotated else y / self.roots[j]
            found[:, column] = constants[j] - np.einsum("nd,nd->n", y, y) / 2
        return found


def overlap(means: np.ndarray, variances: np.ndarray, weights: np.ndarray, rotations: np.ndarray | None) -> Overlap:
    """Of the mixture sum_k w_k N(mu_k, R_k diag(variances_k) R_k^T), shapes as in mixtures.Mixture; kept for the next call.

    With the responsibilities r_k(x) and the entropies h_k = log det(2 pi e S_k)/2 of the components,

        -E log p = sum_k w_k (h_k - log w_k) - sum_k w_k E_k[-log r_k],

    whose last term is all that is integrated: 0 where nothing overlaps. In 1 and 2 dimensions that is by adaptive
    quadrature in the whitened coordinates of each component, finest where narrower ones lie. Above, or where the quadrature is less sure or the two contradict each other, it is the Monte Carlo mean of
    H(r) = -sum_k r_k log r_k over points of each component, with its standard error.
    """
    parts = (means, variances, weights, rotations)
    return _overlap(*(None if part is None else _Held(np.ascontiguousarray(part, np.float64)) for part in parts))


class _Held:
    """An array that equals another by its numbers, as a key of the cache."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.key = array, (array.shape, array.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=32)
def _overlap(means: _Held, variances: _Held, weights: _Held, rotations: _Held | None) -> Overlap:
    every = weights.array > 0
    spread = np.sqrt(np.broadcast_to(variances.array, means.array.shape))[every]
    roots = spread if rotations is None else rotations.array[every] * spread[:, None, :]
    law = Law(means.array[every], roots, weights.array[every] / weights.array.sum())
    (k, d), own, own_error = law.means.shape, np.ones(len(every)), np.zeros(len(every))
    parts = d / 2 * np.log(2 * np.pi * np.e) + law.scales() - np.log(law.weights)
    without = float(law.weights @ parts)
    if k == 1:
        return Overlap(Estimate(without, 0.0), own, own_error)
    confusion, own[every], own_error[every] = by_monte_carlo(law)
    if d <= 2:
        exact = by_quadrature(law)
        agree = abs(exact.value - confusion.value) < 5 * confusion.error + exact.error
        confusion = exact if agree and exact.error < confusion.error else confusion
    return Overlap(Estimate(without - confusion.value, confusion.error), own, own_error)


def shared(law: Law) -> np.ndarray:
    """A bound on E_k[log(1 + w_j N_j/(w_k N_k))], (K, K): sqrt(w_j/w_k) times the Bhattacharyya coefficient, in at most 2
    dimensions or for diagonal covariances; infinite elsewhere; 0 on the diagonal. By log(1 + a) <= sqrt(a).
    """
    k, d = law.means.shape
    apart = law.means[:, None] - law.means
    if law.rotated and d > 2:
        return np.where(np.eye(k, dtype=bool), 0.0, np.inf)
    if law.rotated:
        squares = law.roots @ law.roots.swapaxes(1, 2)
        middle = (squares[:, None] + squares) / 2
        far, size = np.einsum("kji,kjil,kjl->kj", apart, np.linalg.inv(middle), apart), np.linalg.slogdet(middle)[1]
    else:
        middle = (law.roots[:, None] ** 2 + law.roots**2) / 2
        far, size = (apart**2 / middle).sum(axis=-1), np.log(middle).sum(axis=-1)
    scales = law.scales()
    logs = -far / 8 - (size - scales[:, None] - scales) / 2
    with np.errstate(under="ignore"):
        bound = np.sqrt(law.weights / law.weights[:, None]) * np.exp(logs)
    return bound * (1 - np.eye(k))


def by_quadrature(law: Law) -> Estimate:
    """sum_k w_k E_k[-log r_k] in nats, in 1 or 2 dimensions, and the quadrature's estimate of its error."""
    bounds, value, error = shared(law), 0.0, 0.0
    allowed = WORK / max(1, int((bounds > NEGLECTED).sum()))
    for k, weight in enumerate(law.weights):
        near = np.flatnonzero(bounds[k] > NEGLECTED)
        error += weight * float(bounds[k].sum() - bounds[k, near].sum())
        if len(near):
            found = adaptive(law, k, near, allowed)
            value, error = value + weight * found.value, error + weight * found.error
    return Estimate(float(value), float(error))


def adaptive(law: Law, k: int, near: np.ndarray, allowed: float) -> Estimate:
    """E_k[-log r_k] where only these components are near, over cells that are halved along each axis.

    By products of Gauss-Legendre rules. What halving a cell changes is taken for its error, though the halves' sum, which is
    kept, is far nearer. The cells of least error are left as they are while their errors sum to less than TOLERANCE; none
    is that is wide beside a component in it. After `allowed` evaluations a component all are, and the error says it.
    """
    d, spent = law.means.shape[1], 0.0
    centres, widths = whitened(law, k, near)
    corners = np.stack(np.meshgrid(*[(-0.5, 0.5)] * d, indexing="ij"), -1).reshape(-1, d)
    cells, half = np.zeros((1, d)), REACH
    values, value, error = integrals(law, k, near, cells, half), 0.0, 0.0
    while len(cells):
        parts = (cells[:, None] + half * corners).reshape(-1, d)
        finer = integrals(law, k, near, parts, half / 2)
        sums = finer.reshape(len(cells), -1).sum(axis=1)
        changes, spent = np.abs(sums - values), spent + len(parts) * NODES**d
        within = (np.abs(cells[:, None] - centres) <= half + 8 * widths).all(axis=2)
        changes = np.where((within & (half > 4 * widths.min(axis=1))).any(axis=1), np.inf, changes)
        order = np.argsort(changes)
        left = np.cumsum(changes[order]) <= (TOLERANCE - error) / 2
        if spent + int((~left).sum()) * 4**d * NODES**d > allowed:
            left[:] = True
        done, on = order[left], order[~left]
        value, error = value + float(sums[done].sum()), error + float(changes[done].sum())
        cells = parts.reshape(len(sums), -1, d)[on].reshape(-1, d)
        values, half = finer.reshape(len(sums), -1)[on].ravel(), half / 2
    return Estimate(float(value), float(error))


def whitened(law: Law, k: int, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means (n, d) of these components in component k's whitened coordinates, and their stds (n, d) along the axes there."""
    apart = law.means[near] - law.means[k]
    if not law.rotated:
        return apart / law.roots[k], law.roots[near] / law.roots[k]
    into = np.linalg.inv(law.roots[k])
    return apart @ into.T, np.linalg.norm(into @ law.roots[near], axis=2)


def integrals(law: Law, k: int, near: np.ndarray, cells: np.ndarray, half: float) -> np.ndarray:
    """The integrals (n,) of N(u; 0, I) times -log r_k(mu_k + L_k u) over cells of centres (n, d) and half that width."""
    d, (points, weights) = cells.shape[1], np.polynomial.legendre.leggauss(NODES)
    grid = np.stack(np.meshgrid(*[points] * d, indexing="ij"), -1).reshape(-1, d)
    weights = half**d * np.prod(np.stack(np.meshgrid(*[weights] * d, indexing="ij"), -1).reshape(-1, d), -1)
    found, size = [], max(1, 2**18 // len(grid))
    for begin in range(0, len(cells), size):
        u = (cells[begin : begin + size, None] + half * grid).reshape(-1, d)
        logs = law.log_densities(law.place(k, u), np.append(near, k))
        logs -= logs[:, -1:]
        top = logs.max(axis=1)
        surprise = top + np.log(np.exp(logs - top[:, None]).sum(axis=1))
        density = np.exp(-np.einsum("nd,nd->n", u, u) / 2) / (2 * np.pi) ** (d / 2)
        found.append((surprise * density).reshape(-1, len(grid)) @ weights)
    return np.concatenate(found)


def by_monte_carlo(law: Law) -> tuple[Estimate, np.ndarray, np.ndarray]:
    """E H(r) in nats, and E_k[r_k] (K,) with its standard errors, from draws of each component.

    An overlap that is rarer than a draw in all of them is not seen: the error is not below what it could be, by the bound of
    `shared` and by log K a draw.
    """
    k, d = law.means.shape
    count = int(np.clip(NUMBERS / (k * (d if law.rotated else 1) * max(d, 8)), 2**12, DRAWS))
    rng, every = np.random.default_rng(0), np.arange(k)
    counts = np.maximum(np.round(count * law.weights), min(256, count)).astype(int)
    mean, variance, own, own_error = 0.0, 0.0, np.empty(k), np.empty(k)
    for each, (weight, n) in enumerate(zip(law.weights, counts, strict=True)):
        logs = law.log_densities(law.place(each, rng.standard_normal((n, d))), every)
        logs -= np.logaddexp.reduce(logs, axis=1, keepdims=True)
        r = np.exp(logs)
        confusion = -np.einsum("nk,nk->n", r, np.maximum(logs, -745))  # r is 0 below
        mean += weight * confusion.mean()
        variance += weight**2 * confusion.var(ddof=1) / n
        own[each], own_error[each] = r[:, each].mean(), r[:, each].std(ddof=1) / np.sqrt(n)
    unseen = min(float(law.weights @ shared(law).sum(axis=1)), np.log(k) / counts.sum())
    return Estimate(float(mean), float(max(np.sqrt(variance), unseen))), own, own_error
