"""Points that are kept from training by their share of the data."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffsde.errors import UserError
from diffsde.knobs import is_number


def split_rows(test: str, count: int, what: str = "rows") -> tuple[Any, np.ndarray]:
    """Which of `count` rows are for training and which for tests, each in their order; a slice for all where `test` is no share.

    By a permutation that is always the same. Raises UserError where fewer than 2 would be for either.
    """
    if not is_number(test):
        return slice(None), np.arange(0)
    order = np.random.default_rng(0).permutation(count)
    apart = round(float(test) * count)
    if apart < 2 or count - apart < 2:
        raise UserError(
            f"dataset.test: {test} of {count} {what} are {apart}, and {count - apart} are left to train on; there must be"
            " 2 of each at least"
        )
    return np.sort(order[apart:]), np.sort(order[:apart])
