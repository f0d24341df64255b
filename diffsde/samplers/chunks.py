"""Chunks of samples: on a CPU as many samples are computed together as keep one matrix product within its caches."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffsde.fields import Field
from diffsde.processes import Process
from diffsde.types import Array

CACHE = 4 * 2**20  # bytes per thread; measured: scripts/bench_scaling.py --chunks
MARK = 1009  # samples in the traced trial: a prime, which divides the sizes of arrays with an axis of samples only


def fitting(field: Field | Process, x: Array) -> int:
    """Number of samples whose largest matrix product, factors and result, fits in CACHE bytes per thread of a CPU.

    All n of x (n, *shape) on other backends, and where there are several devices: x may be sharded over them, which a
    traced function cannot see.
    """
    if jax.default_backend() != "cpu" or jax.device_count() > 1:
        return x.shape[0]
    return max(1, CACHE * threads() // bytes_live(field, x.shape[1:], x.dtype))


def threads() -> int:
    """Number of threads of XLA's CPU programs: $NPROC, which XLA reads, or one per core that this process may use."""
    if words := os.environ.get("NPROC"):
        return int(words)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bytes_live(field: Field | Process, shape: tuple[int, ...], dtype: Any) -> int:
    """Bytes per sample that the largest matrix product or convolution in the field's velocity reads and writes.

    XLA fuses the operations between two products, so that only the arrays of products lie in memory.
    """
    points, time = jax.ShapeDtypeStruct((MARK, *shape), dtype), jax.ShapeDtypeStruct((), dtype)
    program = jax.make_jaxpr(jax.vmap(field.velocity, (0, None)))(points, time)
    point = math.prod(shape) * points.dtype.itemsize
    return max([2 * point, *products(program.eqns)])


def products(equations: Any) -> Iterator[int]:
    """Bytes per sample read and written by each matrix product and convolution of a jaxpr, nested jaxprs included."""
    for equation in equations:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            arrays = [each.aval for each in (*equation.invars, *equation.outvars)]
            yield sum(each.size * each.dtype.itemsize // MARK for each in arrays if each.size % MARK == 0)
        for part in jax.tree.leaves(equation.params):
            yield from products(getattr(part, "eqns", []))


class Chunks(NamedTuple):
    """n samples as `number` chunks of `size` each; the last is padded with the first samples. One chunk: arrays stay whole."""

    n: int
    number: int
    size: int

    def split(self, x: Array) -> Array:
        """(n, ...) to (number, size, ...); unchanged where there is one chunk."""
        if self.number == 1:
            return x
        filled = jnp.concatenate([x, x[: self.number * self.size - self.n]])
        return filled.reshape(self.number, self.size, *x.shape[1:])

    def join(self, x: Array) -> Array:
        """(number, size, ...) back to (n, ...)."""
        return x if self.number == 1 else x.reshape(-1, *x.shape[2:])[: self.n]

    def map(self, function: Callable[..., Any], *args: Any) -> Any:
        """Apply a function of one chunk (size, ...) to the chunks one after another."""
        return function(*args) if self.number == 1 else jax.lax.map(lambda each: function(*each), args)


def chunks(n: int, most: int) -> Chunks:
    """The fewest equal chunks of at most `most` samples for n samples; padding is below one sample per chunk."""
    number = math.ceil(n / most)
    return Chunks(n, number, math.ceil(n / number))
