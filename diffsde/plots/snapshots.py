"""Snapshots of a population at several times, and trajectories through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffsde.plots.style import INK, PATHLINE, TIMES, Extent, frame, new_panels

FEW = 1500  # points of a snapshot that are drawn
FAINT, SIZE = 0.45, 5.0  # of a point in a cloud
JITTER = 0.012  # of the width, by which points of one time are moved apart
LETTERED = 9  # panels of a row, at most, that have room for a title


class Moment(NamedTuple):
    """One time: in the data's own unit, as t, the true points (n, 2) there, samples (m, 2) on their way there, and whether the
    points were left out of training.
    """

    time: float
    t: float
    true: np.ndarray
    samples: np.ndarray
    left_out: bool = False

    @property
    def title(self) -> str:
        """The time as titles say it."""
        return f"time {self.time:.6g}" + (", left out" if self.left_out else "")


def through_snapshots(
    moments: Sequence[Moment], ways: dict[str, np.ndarray], extent: Extent, about: str = ""
) -> Figure:
    """The snapshots on the left, each in the colour of its time; beside them, for each title, trajectories (m, k, 2) of k samples
    through all of them, with the samples at the snapshots' times in the same colours.
    """
    figure, axes = new_panels(4.8, 1, 1 + len(ways), about, 100, 1.5)
    shade = colours(moments)
    for moment, colour in zip(moments, shade, strict=True):
        cloud(axes[0, 0], apart(moment.true[:FEW], extent), colour, FAINT)
        axes[0, 0].plot([], [], "o", color=colour, ms=6, label=moment.title)
    axes[0, 0].set_title("data")
    for axis, (title, way) in zip(axes[0, 1:], ways.items(), strict=True):
        for moment in moments:
            cloud(axis, apart(moment.true[:FEW], extent), "#d8dbe2", 0.5)
        for k in range(way.shape[1]):
            axis.plot(way[:, k, 0], way[:, k, 1], color=PATHLINE, lw=0.55, alpha=0.55, zorder=2)
        for moment, colour in zip(moments, shade, strict=True):
            axis.scatter(
                *moment.samples[: way.shape[1]].T, s=13, color=colour, edgecolor="white", linewidth=0.4, zorder=3
            )
        axis.set_title(title)
    for axis in axes.flat:
        frame(axis, extent)
        axis.label_outer()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    box = axes[0, -1].get_position()
    figure.legend(
        handles, labels, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(box.x1, box.y1), labelcolor=INK
    )
    return figure


def beside_snapshots(moments: Sequence[Moment], extent: Extent, about: str = "") -> Figure:
    """A panel for each time: the true points above, the samples at that time below."""
    figure, axes = new_panels(2.5 if len(moments) <= LETTERED else 1.8, 2, len(moments), about, 100, titles=2)
    for line, title, name in zip(axes, ("data", "samples"), ("true", "samples"), strict=True):
        for axis, moment, colour in zip(line, moments, colours(moments), strict=True):
            cloud(axis, getattr(moment, name)[:FEW], colour, 0.6)
            axis.set_title(f"{title}\n{moment.title}" if name == "true" else f"{title}, t = {moment.t:.3g}", fontsize=9)
            frame(axis, extent)
            axis.locator_params(axis="x", nbins=4)
            axis.label_outer()
    return figure


def apart(x: np.ndarray, extent: Extent) -> np.ndarray:
    """Points (n, 2) that all stand at one time, against which they are drawn, a little to its left and right; others as they are."""
    if np.ptp(x[:, 0]) > 0:
        return x
    room = JITTER * (extent.right - extent.left)
    return x + np.stack([np.random.default_rng(0).uniform(-room, room, len(x)), np.zeros(len(x))], axis=1)


def cloud(axis: Axes, x: np.ndarray, colour: Any, alpha: float) -> None:
    """Points (n, 2) of one colour."""
    axis.scatter(x[:, 0], x[:, 1], s=SIZE, color=colour, alpha=alpha, linewidth=0, rasterized=True, zorder=1)


def colours(moments: Sequence[Moment]) -> list[Any]:
    """A colour for each time, evenly from the first to the last, whatever lies between two."""
    return [TIMES(i / (len(moments) - 1)) for i in range(len(moments))]
