"""Networks, split once into a static graph and a pytree of parameters; the only files that import flax.

The choices themselves come from `table` when they are first asked for: an exact field has no need of flax, whose import takes
as long as that of jax.
"""

from __future__ import annotations

import importlib
import inspect
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import jax

from diffsde.errors import UserError
from diffsde.nets.net import Net
from diffsde.types import Array, Key, Scalar

if TYPE_CHECKING:
    from flax import nnx

    from diffsde.nets.table import (
        MLP,
        NETS,
        Auto,
        ClassifierNet,
        CouplingNet,
        DiT,
        Mixer,
        PairNet,
        RealNVP,
        Spline,
        UNet,
        choose_net,
    )

Graph = Any  # nnx.GraphDef: hashable, static
Params = dict[str, Any]

__all__ = [
    "MLP",
    "NETS",
    "Auto",
    "ClassifierNet",
    "CouplingNet",
    "DiT",
    "Graph",
    "Mixer",
    "Net",
    "PairNet",
    "Params",
    "RealNVP",
    "Spline",
    "UNet",
    "apply",
    "choose_net",
    "count",
    "flow_backward",
    "flow_forward",
    "initialise",
    "structure",
]


def __getattr__(name: str) -> Any:
    table = importlib.import_module("diffsde.nets.table")
    if name not in table.__all__:
        raise AttributeError(f"module 'diffsde.nets' has no attribute '{name}'")
    return getattr(table, name)


@lru_cache(maxsize=16)
def structure(
    net: Net, shape: tuple[int, ...], compute: str = "float32", classes: int = 0, times: int = 1
) -> tuple[Graph, Any]:
    """(graph, shapes): the static structure and the shapes of its parameters, without computing any. times: as in Net.make."""
    from flax import nnx

    graphs: list[Graph] = []

    def split(key: Key) -> Any:
        graph, params = nnx.split(_made(net, shape, nnx.Rngs(key), compute, classes, times), nnx.Param)
        graphs.append(graph)
        return _named(params)

    shapes = jax.eval_shape(split, jax.eval_shape(jax.random.key, 0))
    return graphs[0], shapes


@partial(jax.jit, static_argnames=("net", "shape", "classes", "times"))
def initialise(net: Net, shape: tuple[int, ...], key: Key, classes: int = 0, times: int = 1) -> Any:
    """Fresh float32 parameters, drawn in one compiled program (eagerly, every distinct operation would be compiled alone)."""
    from flax import nnx

    return _named(nnx.state(_made(net, shape, nnx.Rngs(key), "float32", classes, times), nnx.Param))


def _made(net: Net, shape: tuple[int, ...], rngs: Any, compute: str, classes: int, times: int) -> Any:
    """The net's module; `times` is passed only where it is not 1. Raises UserError for a net of one time where two are asked for."""
    if times == 1:
        return net.make(shape, rngs, compute, classes)
    if "times" not in inspect.signature(net.make).parameters:
        raise UserError(
            f"net: {type(net).__name__} is of one time, and a flow map's network of two; give its make a keyword times=1, and"
            " where that is 2 read t (2,) as where a jump begins and ends"
        )
    make: Any = net.make
    return make(shape, rngs, compute, classes, times=times)


def apply(graph: Graph, params: Any, x: Array, t: Scalar | Array, label: Scalar | None = None) -> Array:
    """The network's output at one point: x (*shape,), t () -> (*shape,); t (2,) for a network of two times.

    label (): 0..classes, where `classes` is "no label", and so is None; a network made for 0 classes reads none.
    """
    return _merged(graph, params)(x, t, label)


def flow_forward(graph: Graph, params: Any, x: Array, label: Scalar | None = None) -> tuple[Array, Scalar]:
    """(z (d,), log |det dz/dx| ()) of a coupling flow at one point x (d,); label as in `apply`."""
    return _merged(graph, params).forward(x, label)


def flow_backward(graph: Graph, params: Any, z: Array, label: Scalar | None = None) -> Array:
    """The point x (d,) that a coupling flow maps to z (d,)."""
    return _merged(graph, params).backward(z, label)


def count(params: Any) -> int:
    """The number of trained parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _named(params: nnx.State) -> Params:
    """Parameters by name ("layers/0/kernel"): a flat dict with string keys, the same before and after a checkpoint."""
    from flax import nnx

    return {
        "/".join(map(str, path)): value
        for path, value in nnx.traversals.flatten_mapping(nnx.to_pure_dict(params)).items()
    }


def _merged(graph: Graph, params: Any) -> Any:
    """The module of a graph with these parameters."""
    from flax import nnx

    state = nnx.traversals.unflatten_mapping({_path(name): value for name, value in params.items()})
    return nnx.merge(graph, state)


def _path(name: str) -> tuple[str | int, ...]:
    return tuple(int(part) if part.isdigit() else part for part in name.split("/"))
