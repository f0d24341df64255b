"""Samples of posteriors beside the truth and what was measured of it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffsde.plots.style import DATA, GREY, INK, NOISE, frame, new_figure, window

UNKNOWN = (0.93, 0.86, 0.80)  # the colour of what was not measured


def reconstructions(
    truth: np.ndarray,
    measured: np.ndarray,
    known: np.ndarray,
    shown: list[np.ndarray],
    samples: list[np.ndarray],
    about: str = "",
) -> Figure:
    """A row for each truth (k, H, W, C) in [-1, 1]: it, what was measured where `known` (H, W, C), samples, mean and std.

    shown: the samples (columns, H, W, C) to draw of each row; samples: all of them, for the mean and the std.
    """
    columns = len(shown[0])
    titles = [
        "truth",
        "measured",
        *[f"sample {i + 1}" for i in range(columns)],
        f"mean of {len(samples[0])}",
        "std, 0 to 1",
    ]
    figure, axes = new_figure(0.95 * len(titles), 0.95 * len(truth) + 0.5, len(truth), len(titles), about)
    for row, line in enumerate(axes):
        pictures = [truth[row], measured[row], *shown[row], samples[row].mean(axis=0)]
        for axis, picture in zip(line, pictures, strict=False):
            draw_image(axis, picture)
        if not known.all():
            line[1].imshow(np.dstack([np.broadcast_to(UNKNOWN, (*known.shape[:2], 3)), ~known.all(axis=-1)]))
        line[-1].imshow(samples[row].std(axis=0).mean(axis=-1), cmap="magma", vmin=0, vmax=1)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=7)
    return figure


def draw_image(axis: Axes, picture: np.ndarray) -> None:
    """An image (H, W, 1 or 3) in [-1, 1]."""
    values = np.clip((picture + 1) / 2, 0, 1)
    axis.imshow(values[..., 0] if values.shape[-1] == 1 else values, cmap="gray", vmin=0, vmax=1)


def clouds(
    data: np.ndarray,
    truth: np.ndarray,
    samples: list[np.ndarray],
    exact: list[np.ndarray | None],
    most: int = 4,
    square: bool = True,
    names: tuple[str, ...] = ("$x_1$", "$x_2$"),
    about: str = "",
) -> Figure:
    """A panel for each of the first truths (k, 2): data (m, 2), draws of the exact posterior where known, and samples."""
    columns = min(most, len(truth))
    figure, axes = new_figure(3.3 * columns, 4.3, 1, columns, about)
    clouds = [data, truth[:columns], *samples[:columns], *[each for each in exact[:columns] if each is not None]]
    extent = window(clouds, square=square)._replace(names=names)
    for i, axis in enumerate(axes.flat):
        axis.scatter(*data.T, s=1.5, color=GREY, alpha=0.2, linewidth=0, label="data")
        drawn = exact[i]
        if drawn is not None:
            axis.scatter(*drawn.T, s=9, color=DATA, alpha=0.22, linewidth=0, label="exact posterior")
        axis.scatter(*samples[i][:1000].T, s=5, color=INK, alpha=0.8, linewidth=0, label="samples")
        axis.plot(*truth[i], "+", color=NOISE, ms=11, mew=2, label="truth")
        frame(axis, extent)
        axis.label_outer()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8, labelcolor=INK, markerscale=2
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    figure.get_layout_engine().set(h_pad=0.06)  # type: ignore[union-attr, call-arg]
    return figure
