"""Processes of the user's own: drift and diffusion as expressions in x and t."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp

from diffsde.errors import UserError
from diffsde.expressions import evaluate_expression
from diffsde.processes.process import Process
from diffsde.types import Array, Scalar, choice

Texts = str | tuple[str, ...]


def listed(texts: Texts) -> tuple[str, ...]:
    """The expressions of all coordinates; a single text `[a, b]`, as the command line leaves one with parentheses, is split."""
    if not isinstance(texts, str):
        if not texts:
            raise ValueError("drift and diffusion must be an expression, or a list of one a coordinate, e.g. [x2,-x1]")
        return texts
    text = texts.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return (text,)
    pieces, depth = [""], 0
    for letter in text[1:-1]:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            pieces.append("")
        else:
            pieces[-1] += letter
    return tuple(piece.strip(" '\"") for piece in pieces)


@choice
class ExpressionProcess(Process):
    """expression: dX_i = drift_i(X, t) dt + diffusion_i(X, t) dW_i, in Ito's sense.

    drift, diffusion: an expression for every coordinate, or a list of one a coordinate; in x (the coordinate itself),
    x1, x2, ... (all of them) and t.
    """

    drift: Texts = "-x"
    diffusion: Texts = "1.0"

    def check(self) -> None:
        """Raise UserError for what is no expression, or names what there is not."""
        d = self.dimension or max(1, self._highest())
        x = jax.ShapeDtypeStruct((d,), jnp.result_type(float))
        jax.eval_shape(lambda x: self.at(x, 0.5), x)

    def _highest(self) -> int:
        """The highest i of the x_i that are named; 0 for none."""
        names = re.findall(r"\bx([1-9]\d*)\b", " ".join((*listed(self.drift), *listed(self.diffusion))))
        return max(map(int, names), default=0)

    @property
    def dimension(self) -> int | None:
        sizes = {len(part) for part in (listed(self.drift), listed(self.diffusion)) if len(part) > 1}
        if len(sizes) > 1:
            raise ValueError(f"drift and diffusion are lists of {' and '.join(map(str, sorted(sizes)))} expressions")
        return next(iter(sizes), None) or self._highest() or None

    @property
    def additive(self) -> bool:
        return not re.search(r"\bx\d*\b", " ".join(listed(self.diffusion)))

    @property
    def noiseless(self) -> bool:
        try:
            return not any(evaluate_expression(text, {}) for text in listed(self.diffusion))
        except UserError:  # it names x or t
            return False

    def drift_at(self, x: Array, t: Scalar) -> Array:
        return computed(listed(self.drift), x, t)

    def diffusion_at(self, x: Array, t: Scalar) -> Scalar:
        return computed(listed(self.diffusion), x, t)


def computed(texts: tuple[str, ...], x: Array, t: Scalar) -> Array:
    """The expressions' values at (x, t), one a coordinate of x (d,); a single text serves all."""
    each = texts if len(texts) > 1 else texts * len(x)
    names: dict[str, Any] = {f"x{i + 1}": value for i, value in enumerate(x)}
    found = [evaluate_expression(text, {"x": x[i], **names, "t": t}) for i, text in enumerate(each)]
    return jnp.stack([jnp.asarray(value, x.dtype) for value in found])
