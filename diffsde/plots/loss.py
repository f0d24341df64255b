"""The loss curve."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from diffsde.plots.style import DATA, GREY, INK, NOISE, new_figure


def loss_curve(
    losses: list[float], chunk: int, steps: int, floor: float | None, title: str, held_out: list[float]
) -> Figure:
    """Mean loss of every `chunk` steps, and that of points kept from training where there are any; with a known floor also the regret, loss minus floor, on a logarithmic axis."""
    figure, axes = new_figure(9 if floor is not None else 5, 3.4, 1, 2 if floor is not None else 1)
    at = np.minimum(np.arange(1, len(losses) + 1) * chunk, steps)
    values = np.asarray(losses)
    axis = axes[0, 0]
    axis.plot(at, values, color=INK, lw=1.3, label="training loss")
    axis.set(xlabel="step", ylabel="mean loss", title=title)
    if len(held_out) == len(at):
        axis.plot(at, held_out, color=NOISE, lw=1.1, label="loss of points kept from training")
        values = np.concatenate([values, held_out[len(held_out) // 10 :]])
    tail = values[len(at) // 10 :]
    low, high = float(tail.min()), float(tail.max())
    if floor is not None:
        axis.axhline(floor, color=DATA, lw=1.2, ls="--", label=f"irreducible: {floor:.4f}")
        low = min(low, floor)
        regret = np.where(
            values[: len(at)] > floor, values[: len(at)] - floor, np.nan
        )  # noise takes single chunks below: gaps there
        axes[0, 1].semilogy(at, regret, ".-", color=INK, lw=1.3, ms=4)
        axes[0, 1].set(xlabel="step", title="loss - irreducible loss")
        axes[0, 1].grid(color=GREY, alpha=0.2)
    pad = 0.15 * (high - low) + 1e-9
    axis.set_ylim(low - pad, high + 3 * pad)
    axis.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure
