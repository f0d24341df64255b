"""A field's error by t, and how the bound on the KL divergence that it gives adds up over t."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffsde.plots.style import DATA, GREY, INK, NOISE, new_figure


def error_by_time(
    t: np.ndarray,
    error: np.ndarray,
    its_error: np.ndarray,
    rate: np.ndarray | None,
    rate_error: np.ndarray | None,
    about: str,
) -> Figure:
    """E|u_theta - u|^2 per coordinate, and the rate of the bound, where there is one, with its sum up to t, against the middles t
    (k,) of equal intervals.
    """
    figure, axes = new_figure(9.6 if rate is not None else 4.8, 3.6, 1, 2 if rate is not None else 1, about)
    left = axes[0][0]
    _with_bars(left, t, error, its_error, INK)
    left.set(
        xlabel="t", ylabel=r"$E|u_\theta-u|^2$ per coordinate", title="error of the velocity at $x_t$ of true points"
    )
    left.title.set_fontsize(9)
    left.set_xlim(0, 1)
    left.spines["top"].set_visible(False)
    left.grid(color=GREY, alpha=0.2)
    if rate is not None and rate_error is not None:
        _with_bound(axes[0][1], t, rate, rate_error)
    return figure


def _with_bound(right: Axes, t: np.ndarray, rate: np.ndarray, rate_error: np.ndarray) -> None:
    """The rate of the bound, and its sum up to t."""
    _with_bars(right, t, rate, rate_error, NOISE)
    right.set(xlabel="t", ylabel="nats per unit of t", title=r"bound on KL, of the SDE with $\sigma_t^2=2\eta_t$")
    right.yaxis.label.set_color(NOISE)
    width = t[1] - t[0] if len(t) > 1 else 1.0
    whole = right.twinx()
    whole.plot(np.append(0.0, t + width / 2), np.append(0.0, np.cumsum(rate) * width), color=DATA, lw=1.3)
    whole.set_ylabel("summed up to t, nats", color=DATA)
    whole.set_ylim(bottom=0)
    whole.tick_params(labelsize=8, colors=DATA)
    whole.spines[["left", "bottom"]].set_visible(False)
    whole.spines["right"].set_color(GREY)
    for axis in (right, whole):
        axis.title.set_fontsize(9)
        axis.set_xlim(0, 1)
        axis.spines["top"].set_visible(False)
    right.grid(color=GREY, alpha=0.2)


def _with_bars(axis: Axes, t: np.ndarray, values: np.ndarray, errors: np.ndarray, colour: str) -> None:
    """Points with one standard error each; logarithmic where they span two decades."""
    axis.errorbar(t, values, yerr=errors, fmt="o-", ms=3, lw=1.1, capsize=2, color=colour)
    if values.min() > 0 and values.max() > 100 * values.min():
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=0)
