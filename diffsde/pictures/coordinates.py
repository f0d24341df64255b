"""The coordinates that a picture shows of points: all of one or two, else chosen columns or principal components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffsde import mixtures
from diffsde.errors import UserError, suggestion
from diffsde.mixtures import Mixture

PRINCIPAL = "principal"
MOST = 4  # coordinates of points of many that are shown where the user names none
SHOWN = 8  # coordinates, at most, that a corner plot has room for


class View(NamedTuple):
    """Coordinates of points x (..., d) as a picture shows them: (x - centre) matrix (..., k), and their names.

    own: whether x is in the data's own units; else in the model's, where each column of a table has std 1. about: what is
    shown, for a title; empty where that is all there is.
    """

    centre: np.ndarray
    matrix: np.ndarray
    names: tuple[str, ...]
    own: bool = True
    about: str = ""

    def show(self, x: np.ndarray) -> np.ndarray:
        """The shown coordinates (..., k) of points (..., d)."""
        return (x - self.centre) @ self.matrix

    def law(self, mixture: Mixture) -> Mixture:
        """The law of the shown coordinates of points that follow a mixture in d dimensions."""
        if self.matrix.shape[0] == self.matrix.shape[1] and not self.about:
            return mixture
        variances = np.broadcast_to(np.asarray(mixture.variances), mixture.means.shape)
        turned = np.eye(len(self.matrix)) if mixture.rotations is None else np.asarray(mixture.rotations)
        axes = np.broadcast_to(turned, (len(variances), *turned.shape[-2:])) * np.sqrt(variances)[:, None]
        shown = np.einsum("dk,nde->nke", self.matrix, axes)
        covariances = (shown @ shown.transpose(0, 2, 1)).astype(variances.dtype)
        means = self.show(np.asarray(mixture.means)).astype(variances.dtype)
        return mixtures.with_covariances(means, covariances, mixture.weights)  # type: ignore[arg-type]  # numpy does


def numbers_of(coordinates: Sequence[int | str], names: Sequence[str], d: int) -> list[int]:
    """The places of coordinates= among d: numbers from 0, or the data's names. Raises UserError for what is neither."""
    found = []
    for each in coordinates:
        if each in names:
            found.append(list(names).index(str(each)))
        elif str(each).isdigit() and int(each) < d:
            found.append(int(each))
        else:
            guess = suggestion(str(each), names) if names else ""
            raise UserError(f"coordinates: '{each}' is neither a column nor a number from 0 to {d - 1}{guess}")
    if len(set(found)) < len(found):
        raise UserError("coordinates: one is there twice; give each once")
    return found


def check_count(coordinates: Sequence[int | str]) -> None:
    """Raise UserError where a corner plot has no room for as many coordinates, or there is nothing to plot one against."""
    if not 2 <= len(coordinates) <= SHOWN:
        raise UserError(f"coordinates: there are {len(coordinates)}; a corner plot has 2 to {SHOWN}")


def chosen_view(chosen: tuple[int | str, ...] | str | None, names: tuple[str, ...], x: np.ndarray) -> View:
    """The view of points like x (n, d), in the model's units, by the words of coordinates=; names: of the data's columns."""
    d = x.shape[1]
    all_names = names or (
        ("$x$",) if d == 1 else tuple(f"$x_{i + 1}$" if i < 9 else f"$x_{{{i + 1}}}$" for i in range(d))
    )
    if chosen == PRINCIPAL:
        return _principal(x)
    if d <= 2:
        return View(np.zeros(d), np.eye(d), all_names)
    few = list(range(min(d, MOST))) if chosen is None else numbers_of(chosen, names, d)
    which = "all" if len(few) == d else f"{'the first ' if chosen is None else ''}{len(few)} of {d}"
    about = f"{which} coordinates"
    return View(np.zeros(d), np.eye(d)[:, few], tuple(all_names[i] for i in few), about=about)


def _principal(x: np.ndarray) -> View:
    """The directions of largest variance, the largest coordinate of each positive, with their shares of the variance."""
    centre = x.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(np.cov((x - centre).T))
    order = np.argsort(variances)[::-1][:MOST]
    axes, shares = axes[:, order], variances[order] / variances.sum()
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(order))])
    names = tuple(f"component {i + 1} ({share:.0%})" for i, share in enumerate(shares))
    return View(centre, axes, names, own=False, about=f"{len(order)} principal components of {x.shape[1]} coordinates")
