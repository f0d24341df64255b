"""How many samples to take together on a CPU: as many as its caches hold between two products of matrices."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.types import Array

CACHE = 4 * 2**20  # bytes a thread; measured: scripts/bench_scaling.py --chunks
MARK = 1009  # samples in the trial that is traced: a prime, so that an array's size tells whether it has an axis of samples


def fitting(field: Field, x: Array) -> int:
    """Samples whose largest product of matrices, factor and result, fits in CACHE bytes a thread; all of x (n, *shape) elsewhere.

    All of x too where there are several devices, over which it may be spread: a traced function cannot see that.
    """
    if jax.default_backend() != "cpu" or jax.device_count() > 1:
        return x.shape[0]
    return max(1, CACHE * threads() // bytes_live(field, x.shape[1:], x.dtype))


def threads() -> int:
    """Those of XLA's CPU programs: $NPROC, which XLA reads, or one per core that this process may use."""
    if words := os.environ.get("NPROC"):
        return int(words)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bytes_live(field: Field, shape: tuple[int, ...], dtype: Any) -> int:
    """Bytes a sample: the most that one product of matrices or convolution in the field's velocity reads and writes.

    XLA fuses the operations between two of them, so that these are what lies in memory.
    """
    points, time = jax.ShapeDtypeStruct((MARK, *shape), dtype), jax.ShapeDtypeStruct((), dtype)
    program = jax.make_jaxpr(jax.vmap(field.velocity, (0, None)))(points, time)
    point = math.prod(shape) * points.dtype.itemsize
    return max([2 * point, *products(program.eqns)])


def products(equations: Any) -> Iterator[int]:
    """Bytes a sample that each product of matrices and convolution reads and writes, also in programs within programs."""
    for equation in equations:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            arrays = [each.aval for each in (*equation.invars, *equation.outvars)]
            yield sum(each.size * each.dtype.itemsize // MARK for each in arrays if each.size % MARK == 0)
        for part in jax.tree.leaves(equation.params):
            yield from products(getattr(part, "eqns", []))


class Chunks(NamedTuple):
    """n samples as `number` chunks of `size`, the last filled up with the first samples once more; one chunk is no chunk."""

    n: int
    number: int
    size: int

    def split(self, x: Array) -> Array:
        """(n, ...) to (number, size, ...); as it is where there is one chunk."""
        if self.number == 1:
            return x
        filled = jnp.concatenate([x, x[: self.number * self.size - self.n]])
        return filled.reshape(self.number, self.size, *x.shape[1:])

    def join(self, x: Array) -> Array:
        """(number, size, ...) back to (n, ...)."""
        return x if self.number == 1 else x.reshape(-1, *x.shape[2:])[: self.n]

    def map(self, function: Callable[..., Any], *args: Any) -> Any:
        """A function of chunks (size, ...), one chunk after another."""
        return function(*args) if self.number == 1 else jax.lax.map(lambda each: function(*each), args)


def chunks(n: int, most: int) -> Chunks:
    """As few chunks of one size as can be, each of at most so many samples; fewer than there are chunks are computed twice."""
    number = math.ceil(n / most)
    return Chunks(n, number, math.ceil(n / number))
