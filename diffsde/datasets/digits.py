"""scikit-learn's digits: the images that need no download."""

from __future__ import annotations

from functools import cache

import jax.numpy as jnp
import numpy as np

from diffsde.datasets.dataset import Examples
from diffsde.datasets.finite import FiniteDataset
from diffsde.extras import require
from diffsde.types import choice


@choice
class Digits(FiniteDataset):
    """digits: scikit-learn's 1797 handwritten digits (8, 8, 1), of 17 greys; the last fifth, 360, are for tests.

    They are the test set of UCI's "optical recognition of handwritten digits".
    """

    flip: bool = False
    dequantise: bool = False
    conditional: bool = False

    def load(self) -> Examples:
        return _digits()[0]

    @property
    def has_test(self) -> bool:
        return True

    def held_out(self) -> Examples:
        return _digits()[1]


@cache
def _digits() -> tuple[Examples, Examples]:
    require("sklearn", "digits", "dataset=digits", package="scikit-learn")
    from sklearn.datasets import load_digits

    digits = load_digits()
    greys = np.round(digits.images[..., None] * (255 / 16)).astype(np.uint8)  # 0 to 16 there
    labels = digits.target.astype(np.int32)
    trained = len(greys) * 4 // 5
    train, test = (
        Examples(jnp.asarray(greys[part]), jnp.asarray(labels[part])) for part in (slice(trained), slice(trained, None))
    )
    return train, test
