"""The arrays in a folder of samples, or of likelihoods, held against what they must be: the folder may be anyone's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffsde.array_archives import Chooser, read_npz
from diffsde.errors import Unreadable, UserError, first_line

REAL = "fiu"  # kinds of dtypes


def read_drawn(folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """x (n, ...), n at least 1, and the labels y (n,) or None, of samples.npz. Raises UserError."""
    path = folder / "samples.npz"
    found = read_archive(path, lambda names: ["x", *(["y"] if "y" in names else [])])
    x, y = found["x"], found.get("y")
    if x.dtype.kind not in REAL or x.ndim < 2 or not x.size:
        raise UserError(
            f"'{path}' holds x of type {x.dtype} and shape {x.shape}; it must be real numbers, a point per row"
        )
    if y is not None and (y.dtype.kind not in "iu" or y.shape != x.shape[:1]):
        raise UserError(f"'{path}' holds y of type {y.dtype} and shape {y.shape}; it must be {len(x)} labels")
    return x, y


def read_trajectory(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The times (m,), and the states x (m, k, ...) at them, of trajectory.npz. Raises UserError."""
    path = folder / "trajectory.npz"
    found = read_archive(path, lambda names: ["times", "x"])
    times, x = found["times"], found["x"]
    fits = times.ndim == 1 and x.ndim >= 3 and len(x) == len(times) and x.size
    if not (fits and {times.dtype.kind, x.dtype.kind} <= {*REAL} and np.isfinite(times).all()):
        raise UserError(
            f"'{path}' holds times of shape {times.shape} and x of type {x.dtype} and shape {x.shape}; it must be real numbers,"
            " a state of every trajectory at each time"
        )
    return times, x


def read_log_densities(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """log p (n,) and the points x (n, ...) of likelihood.npz. Raises UserError."""
    path = folder / "likelihood.npz"
    found = read_archive(path, lambda names: ["log_p", "x"])
    log_p, x = found["log_p"], found["x"]
    if not {log_p.dtype.kind, x.dtype.kind} <= {*REAL} or log_p.ndim != 1 or x.shape[:1] != log_p.shape:
        raise UserError(
            f"'{path}' holds log_p of shape {log_p.shape} and x of shape {x.shape}; a number for each point"
        )
    return log_p.astype(np.float64), x


def read_archive(path: Path, choose: Chooser | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz in a run folder, those that `choose` picks. Raises UserError where it cannot be read."""
    try:
        return read_npz(path, choose, texts=True)
    except KeyError as error:
        raise UserError(f"'{path}' has no array {error}") from None
    except (Unreadable, OSError) as error:
        why = "it is not there" if isinstance(error, FileNotFoundError) else first_line(error)
        raise UserError(f"'{path}' cannot be read: {why}") from None
