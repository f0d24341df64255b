"""The cloud of samples at a few times, and its film."""

from __future__ import annotations

import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure

from diffsde.plots.style import DATA, DENSITY, INK, Extent, HeatMap, frame, heat, new_figure


def marginals(times: list[float], clouds: list[np.ndarray], densities: list[HeatMap] | None, extent: Extent) -> Figure:
    """Samples (n, 2) at each time; over the exact p_t where it is known."""
    figure, axes = new_figure(3.5 * len(times), 3.8, 1, len(times))
    for i, (axis, t, cloud) in enumerate(zip(axes.flat, times, clouds, strict=True)):
        if densities is not None:
            heat(axis, densities[i], DENSITY)
        axis.scatter(cloud[:, 0], cloud[:, 1], s=2.2, color=INK, alpha=0.45, linewidth=0)
        axis.set_title(f"t = {t:.2f}".rstrip("0").rstrip("."))
        frame(axis, extent)
    return figure


def samples_1d(samples: np.ndarray, truth: np.ndarray, name: str = "x") -> Figure:
    """Histograms of samples (n,) and of true data (m,)."""
    figure, axes = new_figure(6, 3.6)
    bins = np.histogram_bin_edges(np.concatenate([samples, truth]), bins=80)
    axes[0, 0].hist(truth, bins=bins.tolist(), density=True, color=DATA, alpha=0.45, label="data")
    axes[0, 0].hist(samples, bins=bins.tolist(), density=True, histtype="step", color=INK, lw=1.2, label="samples")
    axes[0, 0].legend(frameon=False, fontsize=8, labelcolor=INK)
    axes[0, 0].set(xlabel=name, title="samples against data")
    return figure


def film(panels: dict[str, np.ndarray], times: np.ndarray, data: HeatMap, extent: Extent) -> FuncAnimation:
    """The clouds (m, n, 2) moving through `times` (m,), a panel each, over p_data; holds still at the end."""
    figure, axes = new_figure(3.9 * len(panels), 4.2, 1, len(panels))
    figure.set_dpi(90)
    clouds = []
    for axis, (title, paths) in zip(axes.flat, panels.items(), strict=True):
        heat(axis, data, DENSITY, alpha=0.75)
        clouds.append(axis.scatter(paths[0, :, 0], paths[0, :, 1], s=2.5, color=INK, alpha=0.55, linewidth=0))
        axis.set_title(title)
        frame(axis, extent)
    label = axes.flat[0].text(0.03, 0.95, "", transform=axes.flat[0].transAxes, fontsize=9, color=INK)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, not at every frame

    def show(i: int) -> list:
        i = min(i, len(times) - 1)
        for cloud, paths in zip(clouds, panels.values(), strict=True):
            cloud.set_offsets(paths[i])
        label.set_text(f"t = {times[i]:.2f}")
        return [*clouds, label]

    return FuncAnimation(figure, show, frames=len(times) + 12, interval=60)
