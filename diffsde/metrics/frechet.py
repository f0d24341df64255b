"""The Frechet distance between Gaussians: what is called FID where the features are Inception's (1706.08500)."""

from __future__ import annotations

import numpy as np


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """The squared 2-Wasserstein distance of N(m, A) and N(n, B), the Gaussians of two samples (n, d).

    |m - n|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2); squared, as is customary (1706.08500, eq. 6). In float64. Two samples of
    one law are apart by about their covariances' errors, more the smaller they are: compare with two true ones.
    """
    return gaussian_distance(x.mean(axis=0, dtype=float), covariance(x), y.mean(axis=0, dtype=float), covariance(y))


def covariance(x: np.ndarray) -> np.ndarray:
    """(d, d), over n - 1."""
    return np.atleast_2d(np.cov(x, rowvar=False, dtype=np.float64))


def gaussian_distance(m: np.ndarray, a: np.ndarray, n: np.ndarray, b: np.ndarray) -> float:
    """The squared 2-Wasserstein distance of N(m, a) and N(n, b)."""
    root = square_root(a)
    cross = np.linalg.eigvalsh(root @ b @ root)
    return float(np.sum((m - n) ** 2) + np.trace(a) + np.trace(b) - 2 * np.sqrt(np.maximum(cross, 0)).sum())


def square_root(a: np.ndarray) -> np.ndarray:
    """The symmetric root of a symmetric matrix without negative eigenvalues, but for rounding."""
    values, vectors = np.linalg.eigh(a)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
