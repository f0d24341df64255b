"""What a verb found, in memory: figures, summary and arrays, and how a notebook shows them."""

from __future__ import annotations

import dataclasses
import html
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffsde.metrics.figure_text import shown_figure
from diffsde.metrics.figures import Figure


class Trajectory(NamedTuple):
    """The states x (k, n, *shape) of samples at the times (k,), in the data's own units."""

    times: np.ndarray
    x: np.ndarray


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Findings:
    """What a verb found. verb: its name; title: what was done, in a line.

    summary: as summary.json has it; arrays: by file and name, as its .npz files; config: the verb's config; folder: where
    these are written, None: nowhere. pictures: bytes of .png and .gif by file name, of pictures= without folder=. drawings:
    matplotlib's figures by file name, of a verb that makes a picture (show). lines: what a verb says that measures nothing.
    """

    verb: str
    title: str
    summary: dict[str, Any]
    arrays: dict[str, dict[str, np.ndarray]]
    config: dict[str, Any]
    folder: Path | None = None
    pictures: dict[str, bytes] = dataclasses.field(default_factory=dict)
    drawings: dict[str, Any] = dataclasses.field(default_factory=dict)
    lines: tuple[str, ...] = ()

    @property
    def figures(self) -> dict[str, Figure]:
        """The figures by name: value, standard error, and reference, what they are held against."""
        return {name: Figure.of_dict(found) for name, found in self.summary.get("metrics", {}).items()}

    @property
    def x(self) -> np.ndarray:
        """The samples (n, *shape), in the data's own units."""
        return self._array("samples", "x")

    @property
    def y(self) -> np.ndarray | None:
        """The samples' labels (n,); None where they were given none."""
        return self.arrays.get("samples", {}).get("y")

    @property
    def trajectory(self) -> Trajectory | None:
        """The states on the way, where save_every= was given; else None."""
        found = self.arrays.get("trajectory")
        return None if found is None else Trajectory(found["times"], found["x"])

    def _array(self, file: str, name: str) -> np.ndarray:
        if file not in self.arrays:
            raise AttributeError(f"{self.verb} has no {file}")
        return self.arrays[file][name]

    def rows(self) -> list[tuple[str, str]]:
        """The figures as text: name, and value +- error (reference)."""
        units = self.summary.get("units", {})
        return [
            (name.replace("_", " "), shown_figure(each, units.get(name, ""))) for name, each in self.figures.items()
        ]

    def __repr__(self) -> str:
        if self.lines:
            return "\n".join(self.lines)
        rows = self.rows()
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join([self.title, *(f"  {name:<{width}}  {text}" for name, text in rows)])

    def _repr_png_(self) -> bytes | None:
        """A notebook's picture: the first."""
        return next((data for name, data in self.pictures.items() if name.endswith(".png")), None)

    def _repr_html_(self) -> str:
        """A notebook's table."""
        if self.lines:
            return f"<pre>{html.escape(repr(self))}</pre>"
        cells = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>" for name, text in self.rows()
        )
        return f"<table><caption>{html.escape(self.title)}</caption>{cells}</table>"
