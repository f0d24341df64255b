"""The coefficients of paths against t: a panel for each quantity, a colour for each path."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffsde.plots.style import GREY, INK, new_figure

COLOURS = ("#2f6fb7", "#c8452f", "#2a8c6a", "#8b5bb0", "#d08a1d", "#3a3f4c", "#55a6c9", "#b04a7a", "#7f8c2d")
DASHES = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)))  # curves of two paths may lie on one another
INNER = (0.02, 0.98)  # the times whose values set the height of a panel: at the ends many are infinite
DECADES = 50.0  # ratio of the paths' largest values above which a panel's scale is logarithmic
OVER = 1.08  # height of a panel, in heights of what it shows
CUT = 4.0  # a curve that grows beyond this many times its 90% quantile leaves the panel


def path_curves(
    times: np.ndarray, curves: dict[str, dict[str, np.ndarray]], titles: dict[str, tuple[str, str]], about: str = ""
) -> Figure:
    """A panel for each quantity of `titles` (title, label of the axis); curves: for each quantity and each path the values (m,) at times (m,); what is not finite is not drawn."""
    columns = (len(titles) + 1) // 2
    figure, axes = new_figure(3.1 * columns, 5.6, 2, columns, about)
    names = list(next(iter(curves.values())))
    for axis, quantity in zip(axes.flat, titles, strict=False):
        each = curves[quantity]
        for i, name in enumerate(names):
            axis.plot(
                times, each[name], color=COLOURS[i % len(COLOURS)], lw=1.5, label=name, ls=DASHES[i % len(DASHES)]
            )
        _height(axis, times, list(each.values()))
        title, label = titles[quantity]
        axis.set(title=title, xlabel="t", xlim=(0, 1), ylabel=label)
    for axis in list(axes.flat)[len(titles) :]:
        axis.set_axis_off()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    words = {"frameon": False, "fontsize": 9, "labelcolor": INK}
    if len(titles) < axes.size:
        axes.flat[-1].legend(handles, labels, loc="center", **words)
    else:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(names), 6), **words)
    return figure


def _height(axis: Axes, times: np.ndarray, each: list[np.ndarray]) -> None:
    """The panel's limits from what is finite away from the ends; a logarithmic scale where the paths are decades apart."""
    inner = (times >= INNER[0]) & (times <= INNER[1])
    kept = [values[inner & np.isfinite(values)] for values in each]
    kept = [values for values in kept if values.size]
    if not kept:
        axis.text(0.5, 0.5, "not finite", ha="center", color=GREY, transform=axis.transAxes)
        return
    tops = [float(np.abs(values).max()) for values in kept]
    if min(float(values.min()) for values in kept) > 0 and max(tops) > DECADES * min(tops):
        axis.set_yscale("log")
        axis.set_ylim(min(float(values.min()) for values in kept), OVER * max(tops))
        return
    if max(tops) > DECADES * max(min(tops), 1e-30) and min(tops) > 0:
        axis.set_yscale("symlog", linthresh=float(np.median(np.abs(np.concatenate(kept)))) or 1.0)
        low, high = min(float(values.min()) for values in kept), max(float(values.max()) for values in kept)
        axis.set_ylim(OVER * min(low, 0), OVER * max(high, 0))
        return
    low = min(max(float(values.min()), -CUT * float(np.quantile(np.abs(values), 0.9))) for values in kept)
    high = max(min(float(values.max()), CUT * float(np.quantile(np.abs(values), 0.9))) for values in kept)
    room = (OVER - 1) * (high - low) or 0.1
    axis.set_ylim(low - room, high + room)
