"""Arrays as text inside a page: base64 of little-endian numbers, and states in 16 bits."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

LARGEST = 32_767  # of a 16-bit number


def packed(values: Any, kind: str) -> str:
    """The values, row by row, as base64; kind: f32, f64 or u8."""
    dtype = {"f32": "<f4", "f64": "<f8", "u8": "u1"}[kind]
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode("ascii")


def quantised(values: np.ndarray) -> dict[str, Any]:
    """Values (..., m, n, d) in 16 bits, each of the m blocks at a scale of its own; an error of at most scale/65,534.

    The page reads them as values = numbers/32,767 * scales[block]. shape: that of the values.
    """
    others = tuple(i for i in range(values.ndim) if i != values.ndim - 3)
    scales = np.maximum(np.abs(values).max(axis=others), 1e-30)
    numbers = np.rint(values / scales[:, None, None] * LARGEST).astype("<i2")
    return {
        "shape": list(values.shape),
        "scales": [float(f"{scale:.6g}") for scale in scales],
        "numbers": base64.b64encode(numbers.tobytes()).decode("ascii"),
    }
