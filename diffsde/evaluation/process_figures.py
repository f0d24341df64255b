"""Figures of a simulated process against the closed forms of its law: mean, variance and autocovariance at several times."""

from __future__ import annotations

import math

import numpy as np

from diffsde.metrics.figures import Figure, mean_figure
from diffsde.processes import Process
from diffsde.processes.process import Start
from diffsde.runs.process_start import of_mixture

NODES = 100_001  # of the quadrature of a density on a line
NEGLIGIBLE = 40.0  # nats below its maximum at which a density is as good as 0
COORDINATES = 4  # that have figures by themselves
QUARTERS = (0.25, 0.5, 0.75, 1.0)  # of the whole time, at whose states the figures are


def shown_states(times: np.ndarray) -> list[int]:
    """The indices of the saved states (m,) nearest to the quarters of the time, without repetition, 0 left out."""
    return sorted({int(np.abs(times - share * times[-1]).argmin()) for share in QUARTERS} - {0})


def closed_form_figures(
    process: Process, times: np.ndarray, x: np.ndarray, end: np.ndarray, start: Start, groups: np.ndarray | None
) -> dict[str, Figure]:
    """Mean, variance and autocovariance with the last state, of states x (m, k, *shape) at `times` and of all n last states
    `end` (n, *shape), averaged over coordinates; held against the exact values where the process knows them.

    Where only the stationary law is known, the last states are held against that.
    groups (n,): which of several starting points each path begins at. The variance's error is by the fourth moment, the
    autocovariance's by the products' own scatter.
    """
    if end[0].size > 1 and process.mean(0.0, start) is None and stationary_moments(process, end[0].size) is None:
        return by_coordinate(process, times, x, end, groups)
    shown, last = shown_states(times), float(times[-1])
    kept = None if groups is None else groups[: x.shape[1]]
    found = moments_at(process, end, last, start, groups, "")
    if process.covariance(last, last, start) is None and (
        limit := stationary_moments(process, math.prod(end.shape[1:]))
    ):
        held_against = {"mean": limit.mean, "variance": limit.variance}
        return {name: figure.against_exact(float(held_against[name].mean())) for name, figure in found.items()}
    for i in shown[:-1]:
        found |= moments_at(process, x[i], float(times[i]), start, kept, f"_t{times[i]:.4g}")
    for i in shown[:-1] if x.shape[1] > 1 else []:
        pair = centred(x[i]) * centred(x[-1]) * factor(x.shape[1])
        exact = process.covariance(float(times[i]), last, start)
        found[f"autocovariance_t{times[i]:.4g}_t{last:.4g}"] = held(by_path(pair), exact, None, x.shape[2:])
    return found


def by_coordinate(
    process: Process, times: np.ndarray, x: np.ndarray, end: np.ndarray, groups: np.ndarray | None
) -> dict[str, Figure]:
    """The figures of each coordinate by itself, up to COORDINATES: of a process that nothing is known of, they have no
    meaning in common.
    """
    found: dict[str, Figure] = {}
    flat, ends = x.reshape(*x.shape[:2], -1), end.reshape(len(end), -1)
    for j in range(min(ends.shape[1], COORDINATES)):
        nothing = Start(np.zeros(1), np.zeros(1))
        one = closed_form_figures(process, times, flat[..., [j]], ends[:, [j]], nothing, groups)
        found |= {
            name.replace("_t", f"_x{j + 1}_t", 1) if "_t" in name else f"{name}_x{j + 1}": each
            for name, each in one.items()
        }
    return found


def stationary_moments(process: Process, d: int) -> Start | None:
    """Mean and variance (d,) of the stationary law: of a mixture, or by quadrature of a coordinate's density; None for none."""
    if (law := process.stationary(d)) is not None:
        return of_mixture(law)
    reach = 1.0
    while True:
        at = np.linspace(-reach, reach, NODES)
        log = process.log_stationary(at)
        if log is None:
            return None
        if log.max() - max(log[0], log[-1]) > NEGLIGIBLE:
            break
        reach *= 2
    weights = np.exp(log - log.max())
    centre = np.average(at, weights=weights)
    return Start(np.full(d, centre), np.full(d, np.average((at - centre) ** 2, weights=weights)))


def moments_at(
    process: Process, x: np.ndarray, t: float, start: Start, groups: np.ndarray | None, suffix: str
) -> dict[str, Figure]:
    """Mean and variance of the states x (n, *shape) at time t; the mean alone of one path, which says nothing of a variance."""
    found = {f"mean{suffix}": held(by_path(x), process.mean(t, start), groups, x.shape[1:])}
    if len(x) > 1:
        squares = centred(x) ** 2 * factor(len(x))
        found[f"variance{suffix}"] = held(by_path(squares), process.covariance(t, t, start), None, x.shape[1:])
    return found


def held(values: np.ndarray, exact: np.ndarray | None, groups: np.ndarray | None, shape: tuple[int, ...]) -> Figure:
    """The mean of one value a path, against the exact one, averaged over coordinates."""
    figure = mean_figure(values, groups)
    return figure if exact is None else figure.against_exact(float(np.broadcast_to(exact, shape).mean()))


def centred(x: np.ndarray) -> np.ndarray:
    """States (n, *shape) less their mean over the paths, in float64."""
    x = np.asarray(x, np.float64)
    return x - x.mean(axis=0)


def factor(n: int) -> float:
    """n/(n - 1), which makes a mean of squares about the sample's mean unbiased."""
    return n / (n - 1)


def by_path(values: np.ndarray) -> np.ndarray:
    """The mean over coordinates of each path (n,)."""
    return np.asarray(values, np.float64).reshape(len(values), -1).mean(axis=1)
