"""Vector fields at several times: arrows in the plane, and curves where the data are on a line."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from diffsde.plots.style import (
    ARROWS,
    GREY,
    INK,
    SHADE,
    TIMES,
    Extent,
    HeatMap,
    at_time,
    colour_bar,
    frame,
    heat,
    new_figure,
    new_panels,
)

LONGEST = 0.98  # the quantile of the lengths where x_t lies that the longest arrow stands for
PALE = 0.25  # of arrows at places that x_t hardly ever reaches
CELLS = 1.5  # places that the longest arrow reaches over


class ArrowScale:
    """One scale of length and colour for the arrows of all panels of a picture."""

    def __init__(
        self, extent: Extent, places: int, quantity: str, vectors: list[np.ndarray], reached: np.ndarray
    ) -> None:
        """places: arrows along a side; vectors: all that the picture shows, (*grid, 2) each; reached: which places of the
        grids x_t reaches, where lengths count: elsewhere a field may grow without bound.
        """
        self.extent, self.quantity = extent, quantity
        self.sides = np.array([extent.right - extent.left, extent.top - extent.bottom])
        self.square = bool(np.isclose(*self.sides))
        everywhere = reached if reached.any() else np.ones_like(reached)
        sizes = np.concatenate([self.size(each)[everywhere] for each in vectors])
        sizes = sizes[np.isfinite(sizes)]
        self.longest = float(np.quantile(sizes, LONGEST)) if sizes.any() else 1.0
        self.divisor = self.longest / (CELLS * (float(self.sides[0]) if self.square else 1.0) / places)
        self.norm = Normalize(0, self.longest)

    def on_screen(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (..., 2) as they point on the screen: where the axes have two units, those of the window's sides, in which
        velocities are divided by the sides and gradients multiplied.
        """
        if self.square:
            return vectors
        return vectors / self.sides if self.quantity == "velocity" else vectors * self.sides

    def size(self, vectors: np.ndarray) -> np.ndarray:
        """The lengths of vectors (..., 2) on the screen."""
        return np.hypot(*np.moveaxis(self.on_screen(vectors), -1, 0))

    def draw(self, axis: Axes, x: np.ndarray, y: np.ndarray, vectors: np.ndarray, reached: np.ndarray) -> None:
        """Vectors (rows, columns, 2) as arrows at the places x, y, pale where x_t does not reach; longer ones than the longest
        are drawn as that.
        """
        size = self.size(vectors)
        shown = self.on_screen(vectors) * (1.0 if self.square else self.sides)
        shown = shown * np.minimum(1, self.longest / np.maximum(size, 1e-30))[..., None]
        columns, rows = np.meshgrid(x, y)
        near = nearly(reached)
        for where, alpha in ((~near, PALE), (near, 1.0)):
            self._quiver(axis, columns[where], rows[where], shown[where], size[where], alpha)

    def colours(self) -> ScalarMappable:
        """What a colour bar is made from."""
        return ScalarMappable(self.norm, ARROWS)

    def _quiver(
        self, axis: Axes, x: np.ndarray, y: np.ndarray, shown: np.ndarray, size: np.ndarray, alpha: float
    ) -> None:
        axis.quiver(
            x,
            y,
            shown[..., 0],
            shown[..., 1],
            size,
            alpha=alpha,
            cmap=ARROWS,
            norm=self.norm,
            angles="xy",
            scale_units="xy",
            scale=self.divisor,
            width=0.006,
            headwidth=3.6,
            headlength=4.2,
            headaxislength=3.8,
            pivot="tail",
        )

    def label(self) -> str:
        """The colour bar's label, with units."""
        unit = "units of x" if self.square else "window sides"
        return f"|velocity| ({unit} per unit of t)" if self.quantity == "velocity" else f"|score| (1 / {unit})"


def nearly(reached: np.ndarray) -> np.ndarray:
    """The places (rows, columns) that are reached, and those beside them."""
    wide = np.pad(reached, 1)
    rows, columns = reached.shape
    return np.any([wide[i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=0)


def arrows(
    rows: dict[str, np.ndarray],
    notes: dict[str, list[str]],
    axes_values: tuple[np.ndarray, np.ndarray],
    times: np.ndarray,
    scale: ArrowScale,
    reached: np.ndarray,
    shade: list[HeatMap] | None,
    about: str = "",
) -> Figure:
    """A row of panels for each title: vectors (m, rows, columns, 2) as arrows, a panel for each time; one scale for all.

    reached: (m, rows, columns). notes: what is added to a title's panels, one for each time. shade: p_t, drawn in grey under the arrows.
    """
    shape = (len(rows), len(times)) if len(times) > 1 else (1, len(rows))  # at one time all panels side by side
    figure, axes = new_panels(2.9, *shape, about, 100, 1.0)
    x, y = axes_values
    for line, (title, values) in zip(axes.reshape(len(rows), -1), rows.items(), strict=True):
        for j, axis in enumerate(line):
            if shade is not None:
                heat(axis, shade[j], SHADE)
            scale.draw(axis, x, y, values[j], reached[j])
            note = notes.get(title)
            axis.set_title(f"{title}, {at_time(times[j])}" + (f", {note[j]}" if note else ""), fontsize=9)
            frame(axis, scale.extent)
            axis.label_outer()
    colour_bar(figure, axes, scale.colours(), scale.label(), "max")
    return figure


def curves(
    rows: dict[str, np.ndarray],
    notes: dict[str, list[str]],
    x: np.ndarray,
    reached: np.ndarray,
    times: np.ndarray,
    name: str,
    quantity: str,
    about: str = "",
) -> Figure:
    """Vector fields on a line: a panel for each title, values (m, n) at places x (n,) as a curve for each time, pale where x_t
    does not reach (reached: (m, n)); one scale.
    """
    figure, axes = new_figure(4.4 * len(rows) + 0.6, 3.9, 1, len(rows), about, sharey=True)
    for axis, (title, values) in zip(axes.flat, rows.items(), strict=True):
        draw_curves(axis, x, values, reached, times, notes.get(title))
        axis.set(xlabel=name, title=title, xlim=(x[0], x[-1]))
        axis.legend(frameon=False, fontsize=8, labelcolor=INK)
    axes[0, 0].set_ylim(*height(list(rows.values()), [reached] * len(rows)))
    axes[0, 0].set_ylabel(unit_of(quantity))
    return figure


def unit_of(quantity: str) -> str:
    """The label of an axis along which a field's values on a line lie."""
    return f"{quantity} ({'units of x per unit of t' if quantity == 'velocity' else '1 / units of x'})"


def draw_curves(
    axis: Axes,
    x: np.ndarray,
    values: np.ndarray,
    reached: np.ndarray,
    times: np.ndarray,
    notes: list[str] | None = None,
) -> None:
    """Values (m, n) at places x (n,), a curve for each time, pale where x_t does not reach."""
    for j, t in enumerate(times):
        label = at_time(t) + (f", {notes[j]}" if notes else "")
        axis.plot(x, values[j], color=TIMES(t), lw=1.2, alpha=PALE)
        axis.plot(x, np.where(reached[j], values[j], np.nan), color=TIMES(t), lw=1.5, label=label)
    axis.axhline(0, color=GREY, lw=0.6)


def height(values: list[np.ndarray], reached: list[np.ndarray]) -> tuple[float, float]:
    """The limits of an axis that hold the values (m, n) wherever x_t reaches, with some room."""
    every = np.concatenate([each[where] for each, where in zip(values, reached, strict=True)])
    low, high = (float(each) for each in np.nanquantile(every, [0.001, 0.999]))
    room = 0.1 * (high - low) or 1.0
    return low - room, high + room
