"""Pictures of points on a line: trajectories, samples and marginals, with the densities as lines."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffsde.plots.style import DATA, INK, NOISE, PATHLINE, new_figure, shown_time

BINS = 80  # of a histogram of MANY samples or more; of fewer, half as many
MANY = 5000
EDGE = 0.11  # width of a density beside trajectories, as a share of the time that they take


def trajectories_1d(
    panels: dict[str, tuple[np.ndarray, np.ndarray]],
    edges: np.ndarray,
    ends: np.ndarray,
    titles: list[str],
    name: str = "$x$",
    about: str = "",
) -> Figure:
    """A panel for each title: (times (m,), paths (m, k)) of points on a line against t, and the densities on pixels, ends
    (2, p), at their start and at their end, beside them.
    """
    figure, axes = new_figure(5.6 * len(panels), 4.2, 1, len(panels), about, sharey=True)
    places = (edges[1:] + edges[:-1]) / 2
    for axis, (title, (times, paths)) in zip(axes.flat, panels.items(), strict=True):
        long = times[-1] - times[0]
        axis.plot(times, paths, color=PATHLINE, lw=0.5, alpha=0.5)
        for t, side, density, colour, known in zip(
            (times[0], times[-1]), (-1, 1), ends, (NOISE, DATA), titles, strict=True
        ):
            width = side * EDGE * long * density / density.max()
            label = f"{known}, t = {shown_time(t)}"
            axis.fill_betweenx(places, t, t + width, color=colour, alpha=0.3, lw=0, label=label)
            axis.plot(t + width, places, color=colour, lw=1)
        margin = (EDGE + 0.01) * long
        axis.set(title=title, xlabel="$t$", xlim=(times[0] - margin, times[-1] + margin), ylim=(edges[0], edges[-1]))
        axis.set_xticks(np.linspace(times[0], times[-1], 5).round(3))
    axes[0, 0].set_ylabel(name)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8
    )
    return figure


def samples_1d(
    samples: np.ndarray,
    edges: np.ndarray,
    known: dict[str, np.ndarray],
    start: tuple[float, np.ndarray],
    end: float,
    name: str = "$x$",
    about: str = "",
) -> Figure:
    """The histogram of samples (n,) with densities of the data on pixels, by how they are known, at time `end`, and that of
    x_t at the time `start`.
    """
    figure, axes = new_figure(6.4, 4, about=about)
    axis = axes[0, 0]
    label = f"{len(samples):,} samples, t = {shown_time(end)}"
    histogram(axis, samples, edges, label)
    places = (edges[1:] + edges[:-1]) / 2
    for title, density in known.items():
        axis.plot(places, density, color=DATA, lw=1.6, label=f"{title}, t = {shown_time(end)}")
    axis.plot(places, start[1], color=NOISE, lw=1.1, ls="--", label=f"start: $p_t$, t = {shown_time(start[0])}")
    _dress(axis, name, edges)
    return figure


def flow_1d(
    samples: np.ndarray,
    edges: np.ndarray,
    data: tuple[str, np.ndarray],
    density: np.ndarray,
    name: str = "$x$",
    about: str = "",
) -> Figure:
    """The histogram of samples (n,) of a flow, that of the data (words, (m,)) as an outline, and the flow's density on pixels."""
    figure, axes = new_figure(6.4, 4, about=about)
    axis = axes[0, 0]
    histogram(axis, samples, edges, f"{len(samples):,} samples")
    counts = np.histogram(data[1], edges, density=True)[0]
    axis.stairs(counts, edges, color=DATA, lw=1.2, label=data[0])
    axis.plot((edges[1:] + edges[:-1]) / 2, density, color=NOISE, lw=1.4, label="density of the flow")
    _dress(axis, name, edges)
    return figure


def marginals_1d(
    times: list[float],
    edges: np.ndarray,
    densities: list[np.ndarray],
    titles: list[str],
    clouds: list[np.ndarray],
    name: str = "$x$",
    about: str = "",
) -> Figure:
    """The histogram of samples (n, 1) at each time, with the true density on pixels (p,), known as its title says."""
    columns = min(2, len(times))
    figure, axes = new_figure(4.6 * columns, 2.9 * -(-len(times) // columns), -(-len(times) // columns), columns, about)
    places = (edges[1:] + edges[:-1]) / 2
    for axis, t, density, title, cloud in zip(axes.flat, times, densities, titles, clouds, strict=False):
        histogram(axis, cloud[:, 0], edges, f"{len(cloud):,} samples")
        axis.plot(places, density, color=DATA, lw=1.6, label=title)
        _dress(axis, name, edges)
        axis.set_title(f"t = {shown_time(t)}")
    for axis in axes.flat[len(times) :]:
        axis.set_axis_off()
    return figure


def histogram(axis: Axes, samples: np.ndarray, edges: np.ndarray, label: str) -> None:
    """The histogram of samples (n,) as a density, of all of them: bins of the window's width, continued beyond it."""
    count = BINS if len(samples) >= MANY else BINS // 2
    width = (edges[-1] - edges[0]) / count
    before, after = (max(0, int(np.ceil(far / width))) for far in (edges[0] - samples.min(), samples.max() - edges[-1]))
    bins = edges[0] + width * np.arange(-before, count + after + 1)
    if len(bins) > 100 * count:  # a few samples far away
        bins = np.concatenate([[samples.min()], edges[0] + width * np.arange(count + 1), [samples.max()]])
    axis.hist(
        samples,
        bins=np.unique(bins).tolist(),
        density=True,
        histtype="stepfilled",
        color=INK,
        alpha=0.25,
        lw=0,
        label=label,
    )


def _dress(axis: Axes, name: str, edges: np.ndarray) -> None:
    axis.set(xlabel=name, ylabel="density", xlim=(edges[0], edges[-1]))
    axis.set_ylim(0, 1.32 * axis.get_ylim()[1])  # room for the legend
    axis.legend(frameon=False, fontsize=7.5, labelcolor=INK, loc="upper left")
