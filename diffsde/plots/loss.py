"""The loss curve, and what is left of it above its floor."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from diffsde.plots.style import DATA, GREY, INK, LETTERS, NOISE, new_figure

MOST = 4000  # points of a curve: more cannot be told apart


def loss_curve(
    losses: np.ndarray,
    chunk: int,
    steps: int,
    floor: float | None,
    title: str,
    held_out: np.ndarray,
    regrets: np.ndarray,
) -> Figure:
    """Mean loss of every `chunk` steps, with its floor where that is known, and that of points kept from training where
    there are any; where there are regrets (lines, 2), step and regret, these beside it on logarithmic axes. Of more than MOST lines
    each point of a curve is the mean of several.
    """
    figure, axes = new_figure(9.6 if len(regrets) else 5.2, 3.6, 1, 2 if len(regrets) else 1)
    letters = int(0.8 * LETTERS * figure.get_figwidth())  # larger ones than those that LETTERS counts
    figure.suptitle(textwrap.fill(title, letters), fontsize=10, color=INK)
    lines = -(-len(losses) // MOST)
    shown = means_of(losses, lines)
    at = np.minimum(np.arange(1, len(shown) + 1) * lines * chunk, steps)
    held = means_of(held_out, lines) if len(held_out) == len(losses) else np.zeros(0)
    _draw_loss(axes[0, 0], at, shown, min(lines * chunk, steps), floor, held)
    if len(regrets):
        places = np.unique(np.geomspace(1, len(regrets), MOST).round().astype(int)) - 1  # even on a logarithmic axis
        _draw_regret(axes[0, 1], regrets[places] if len(regrets) > MOST else regrets)
    return figure


def means_of(values: np.ndarray, lines: int) -> np.ndarray:
    """The mean of every `lines` values, the last of what is left."""
    if lines <= 1:
        return values
    starts = np.arange(0, len(values), lines)
    return np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))


def _draw_loss(
    axis: Axes, at: np.ndarray, values: np.ndarray, chunk: int, floor: float | None, held_out: np.ndarray
) -> None:
    axis.plot(at, values, color=INK, lw=1.3, marker="o" if len(at) < 3 else "", ms=4, label="training loss")
    axis.set(xlabel="optimizer step", ylabel=f"loss per coordinate, mean of {chunk} steps")
    tail = values[len(at) // 10 :]
    if len(held_out) == len(at):
        axis.plot(at, held_out, color=NOISE, lw=1.1, label="loss of points kept from training")
        tail = np.concatenate([tail, held_out[len(held_out) // 10 :]])
    low, high = float(tail.min()), float(tail.max())
    if floor is not None:
        axis.axhline(floor, color=DATA, lw=1.2, ls="--", label=f"irreducible: {floor:.4f}")
        low = min(low, floor)
    pad = 0.15 * (high - low) + 1e-9
    axis.set_ylim(low - pad, high + 3 * pad)
    axis.legend(frameon=False, fontsize=8, labelcolor=INK)


def _draw_regret(axis: Axes, regrets: np.ndarray) -> None:
    """Of the parameter average, which is what is sampled, against the exact field: never below 0."""
    at, values = regrets.T
    axis.loglog(at, values, ".-", color=INK, lw=1.3, ms=4)
    axis.set(
        xlabel="optimizer step", ylabel="expected loss - irreducible loss", title="regret of the average, exact field"
    )
    axis.title.set_fontsize(9)
    for each in (axis.xaxis, axis.yaxis):  # 1, 2 and 5 of each decade, all in one style
        each.set_major_locator(LogLocator(subs=(1, 2, 5)))
        each.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_powers(value)))
    axis.grid(color=GREY, alpha=0.2)


def in_powers(value: float) -> str:
    """A positive number as digit x 10^power."""
    digit, _, power = f"{value:.0e}".partition("e")
    return rf"${digit}\times10^{{{int(power)}}}$"
