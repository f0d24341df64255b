"""Optimizers: schedules against closed forms, first steps by hand, PyTorch's numbers, and what every one must hold."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from diffsde import checkpoints
from diffsde.build import read
from diffsde.errors import UserError
from diffsde.nets import NETS, _path, structure
from diffsde.optimizers import OPTIMIZERS, SCHEDULES, Adam, AdamW, Lion, Muon, Optimizer, hidden, learning_rate
from diffsde.runs.run_writer import state_from_dict, state_to_dict
from diffsde.training import TrainState

HIDDEN = "layers/1/kernel"
IMAGES = ("mixer", "dit", "unet")
ASIDE = {
    "time_in/kernel",
    "time_out/kernel",
    "modulation/kernel",
}  # outside the blocks: of the condition, and before the head


def schedule(lr: float, warmup: float, name: str, steps: int, decay: float = 0.2) -> np.ndarray:
    """The rates of steps 0..steps."""
    return np.asarray(jax.vmap(lambda step: learning_rate(lr, warmup, name, decay, steps, step))(jnp.arange(steps + 1)))


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_is_linear(name: str) -> None:
    """The first rate is lr/(warmup + 1), not 0, and the rate grows in equal steps (constant) up to lr at step
    `warmup`.
    """
    rates = schedule(0.01, 9, name, 10_000)
    assert rates[0] == pytest.approx(0.001, rel=1e-6)
    assert rates[9] == pytest.approx(0.01, rel=1e-4)
    np.testing.assert_allclose(np.diff(rates[:10]), 0.001, rtol=1e-2)


def test_constant_stays() -> None:
    """After the warm-up a constant schedule is lr to the end; without one it is lr from the start."""
    np.testing.assert_array_equal(schedule(0.01, 9, "constant", 100)[9:], np.float32(0.01))
    np.testing.assert_array_equal(schedule(0.01, 0, "constant", 100), np.float32(0.01))


def test_cosine_falls_to_zero() -> None:
    """The cosine is lr at the start, lr/2 at half time, 0 at the end and beyond, antisymmetric about its middle:
    optax's.
    """
    rates = schedule(0.01, 0, "cosine", 100)
    assert rates[0] == np.float32(0.01) and rates[50] == pytest.approx(0.005, rel=1e-6)
    assert rates[100] == 0 and float(learning_rate(0.01, 0, "cosine", 0.2, 100, 150)) == 0
    np.testing.assert_allclose(rates + rates[::-1], 0.01, rtol=1e-6)
    assert np.all(np.diff(rates) < 0)
    np.testing.assert_allclose(
        rates, [optax.cosine_decay_schedule(0.01, 100)(i) for i in range(101)], rtol=1e-6, atol=1e-8
    )


def test_wsd_is_flat_and_then_falls() -> None:
    """lr until the last fifth; a quarter into it 1 - sqrt has halved the rate and the line taken a quarter, half-way
    they are at 1 - 1/sqrt 2 and 1/2, and both are at 0 at the end and beyond. The line is optax's.
    """
    root, line = schedule(0.01, 0, "wsd", 1000), schedule(0.01, 0, "wsd_linear", 1000)
    for rates, quarter, half in ((root, 0.5, 0.292893), (line, 0.75, 0.5)):
        np.testing.assert_allclose(rates[:801], 0.01, rtol=1e-3)
        assert rates[850] == pytest.approx(0.01 * quarter, rel=1e-5)
        assert rates[900] == pytest.approx(0.01 * half, rel=1e-5)
        assert rates[1000] == 0 and np.all(np.diff(rates[801:]) < 0)
    assert float(learning_rate(0.01, 0, "wsd", 0.2, 1000, 1500)) == 0
    optaxs = optax.linear_schedule(0.01, 0.0, 200, transition_begin=800)
    np.testing.assert_allclose(line, [optaxs(i) for i in range(1001)], atol=1e-8)


@pytest.mark.parametrize("decay", [0.05, 0.5, 1.0])
def test_wsd_has_no_jump(decay: float) -> None:
    """From one step to the next the line falls by lr/(decay steps), and the root, steepest at first, by no more than
    its square root: at no end of the decay, whatever its share, does the rate jump.
    """
    falls = {name: -np.diff(schedule(1.0, 0, name, 1000, decay)) for name in ("wsd", "wsd_linear")}
    assert falls["wsd_linear"].max() == pytest.approx(1 / (decay * 1000), rel=1e-3)
    assert falls["wsd"].max() == pytest.approx((decay * 1000) ** -0.5, rel=1e-2)
    assert np.argmax(falls["wsd"]) == round((1 - decay) * 1000)
    assert sum(falls["wsd"]) == pytest.approx(1, rel=1e-5)


def parameters() -> dict[str, np.ndarray]:
    """The names and a few numbers of a network with one hidden layer of weights."""
    draw = np.random.default_rng(3).standard_normal
    widths = [(3, 4), (4, 6), (6, 2)]
    kernels = {f"layers/{i}/kernel": np.float32(draw(shape)) for i, shape in enumerate(widths)}
    return kernels | {f"layers/{i}/bias": np.float32(draw(n)) for i, (_, n) in enumerate(widths)}


def gradients(seed: int) -> dict[str, np.ndarray]:
    """Of norm 10, 2.5, 10/9 all together for seed 0, 1, 2."""
    draw = np.random.default_rng(seed).standard_normal
    drawn = {name: draw(x.shape) for name, x in parameters().items()}
    norm = np.sqrt(sum(np.sum(x**2) for x in drawn.values()))
    return {name: np.float32(10 / (1 + seed) ** 2 / norm * x) for name, x in drawn.items()}


def steady(optimizer: Optimizer, **numbers: Any) -> Optimizer:
    """At its full rate from the first step on."""
    return dataclasses.replace(optimizer, warmup=0.0, schedule="constant", **numbers)


@partial(jax.jit, static_argnames="count")
def moves(optimizer: Optimizer, count: int = 1, steps: Any = 100) -> tuple[Any, Any]:
    """The updates of `count` steps, stacked, and the last state."""
    transform, start = optimizer.transform(steps), jax.tree.map(jnp.asarray, parameters())

    def move(carry: Any, gradient: Any) -> Any:
        updates, state = transform.update(gradient, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), updates

    slopes = jax.tree.map(lambda *leaves: np.stack(leaves), *(gradients(i) for i in range(count)))
    (_, state), updates = jax.lax.scan(move, (start, transform.init(start)), slopes)
    return updates, state


@pytest.mark.parametrize("optimizer", [Adam(), AdamW(), Lion(), Muon()], ids=lambda item: type(item).__name__)
def test_first_steps_are_signs(optimizer: Optimizer) -> None:
    """At the first step Adam and Lion move every entry by the rate, along the gradient's sign; with decay a kernel also
    goes by rate times decay towards 0. So does all of Muon but its matrix.
    """
    updates = moves(steady(optimizer, lr=0.02))[0]
    weight_decay = getattr(optimizer, "weight_decay", 0.0)
    for name, gradient in gradients(0).items():
        if isinstance(optimizer, Muon) and name == HIDDEN:
            continue
        pulled = weight_decay * parameters()[name] if name.endswith("kernel") else 0.0
        np.testing.assert_allclose(updates[name][0], -0.02 * (np.sign(gradient) + pulled), rtol=1e-5)


# torch 2.13, float64: three steps of lr=0.1, betas=(0.8, 0.9), eps=1e-3 with GRADIENTS from START; AdamW with weight_decay=0.5
START = [[1.0, 2.0], [-3.0, 4.0]]
GRADIENTS = [[[1.0, -2.0], [0.5, 0.25]], [[-1.0, 0.5], [2.0, 0.25]], [[0.1, -3.0], [1.0, -0.5]]]
TORCH = {
    Adam: [[0.9142826522959179, 2.2169606478094397], [-3.2789830599398098, 3.816564560637221]],
    AdamW: [[0.7808429114811769, 1.919820498943735], [-2.8369098514530187, 3.2607557956969817]],
}


@pytest.mark.parametrize("kind", TORCH)
def test_adam_and_adamw_are_pytorchs(kind: type[Optimizer]) -> None:
    """Three steps with every number away from its default end where torch.optim's do."""
    decays = {"weight_decay": 0.5} if kind is AdamW else {}
    numbers = {"lr": 0.1, "b1": 0.8, "b2": 0.9, "eps": 1e-3} | decays
    transform = steady(kind(), **numbers).transform(3)
    params = {"kernel": jnp.array(START)}
    state = transform.init(params)
    for gradient in GRADIENTS:
        updates, state = transform.update({"kernel": jnp.array(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["kernel"], TORCH[kind], rtol=1e-5)


def test_lion_turns_where_its_memory_does() -> None:
    """After one gradient of 1 the memory is 1 - b2 = 0.01, and a gradient -c turns the step when 0.9 0.01 < 0.1 c: at
    c = 0.09; its size does not depend on c.
    """
    for c, sign in ((0.08, -1), (0.1, 1)):
        transform = steady(Lion(), lr=0.5, weight_decay=0.0).transform(10)
        x = {"bias": jnp.zeros(())}
        _, state = transform.update({"bias": jnp.ones(())}, transform.init(x), x)
        assert float(transform.update({"bias": jnp.array(-c)}, state, x)[0]["bias"]) == sign * 0.5


def test_muon_is_pytorchs() -> None:
    """The first step of a hidden matrix, lr=0.1 and weight_decay=0.5, is that of torch.optim.Muon with
    adjust_lr_fn='match_rms_adamw' (torch 2.13, told to work in float64 where it takes bfloat16).
    """
    start = jnp.array([[1.0, 2.0, 0.0], [-3.0, 4.0, 1.0]])
    gradient = jnp.array([[1.0, -2.0, 0.5], [0.5, 0.25, 2.0]])
    torchs = [
        [0.9344808766585416, 1.9306946507145932, -0.00824059602638195],
        [-2.8578368707636015, 3.7967687565548456, 0.9196145856568977],
    ]
    transform = steady(Muon(), lr=0.1, weight_decay=0.5).transform(1)
    params = {"blocks/0/kernel": jnp.ones((2, 2)), "blocks/1/kernel": start, "blocks/2/kernel": jnp.ones((3, 2))}
    slopes = jax.tree.map(jnp.ones_like, params) | {"blocks/1/kernel": gradient}
    updates, _ = transform.update(slopes, transform.init(params), params)
    np.testing.assert_allclose(start + updates["blocks/1/kernel"], torchs, atol=1e-5)


class Layered(nnx.Module):
    """Every kind of layer, in a block between an input and an output layer."""

    def __init__(self, rngs: nnx.Rngs):
        self.stem = nnx.Linear(2, 12, rngs=rngs)
        self.label = nnx.Embed(3, 12, rngs=rngs)
        self.blocks = nnx.List([Block(rngs)])
        self.head = nnx.Linear(12, 2, rngs=rngs)


class LayeredNet:
    def make(self, shape: tuple[int, ...], rngs: nnx.Rngs, compute: str, classes: int) -> nnx.Module:
        return Layered(rngs)


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(12, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(num_heads=3, in_features=12, decode=False, rngs=rngs)
        self.conv = nnx.Conv(5, 9, (3, 3), padding="VALID", rngs=rngs)
        self.wide = nnx.Linear(12, 40, rngs=rngs)
        self.narrow = nnx.Linear(40, 12, rngs=rngs)


LAYERS = {  # a hidden layer by its name, and the shape of one input that gives one output
    "attention/query": (12,),
    "attention/key": (12,),
    "attention/value": (12,),
    "attention/out": (3, 4),
    "conv": (1, 3, 3, 5),
    "wide": (12,),
    "narrow": (40,),
}


def test_muon_orthogonalises_every_kind_of_hidden_layer() -> None:
    """With the step as its kernel each hidden layer is a linear map whose singular values all are near
    lr rms sqrt(max(inputs, outputs)), so that the step's root-mean-square entry is near lr rms; by the layers' own
    application, whatever the axes of their kernels.
    """
    graph, shapes = structure(LayeredNet(), (2,))
    draw = np.random.default_rng(1).standard_normal
    slopes = {name: np.float32(draw(x.shape)) for name, x in shapes.items()}

    @jax.jit
    def first(slopes: Any) -> Any:
        transform = steady(Muon(), lr=0.5, rms=0.3, weight_decay=0.0).transform(1)
        return transform.update(slopes, transform.init(slopes), slopes)[0]

    updates = first(slopes)
    assert hidden(list(slopes)) == {f"blocks/0/{layer}/kernel" for layer in LAYERS}
    stepped = nnx.merge(graph, nnx.traversals.unflatten_mapping({_path(name): x for name, x in updates.items()}))
    for name, shape in LAYERS.items():
        layer: Any = stepped.blocks[0]
        for part in name.split("/"):
            layer = getattr(layer, part)
        size = int(np.prod(shape))
        matrix = np.asarray(jax.jit(jax.jacobian(lambda x: layer(x.reshape(shape)).reshape(-1)))(jnp.zeros(size)))  # noqa: B023
        singular = np.linalg.svd(matrix)[1] / (0.5 * 0.3 * np.sqrt(max(matrix.shape)))
        assert singular.min() > 0.65 and singular.max() < 1.25, name
        assert np.sqrt(np.mean(updates[f"blocks/0/{name}/kernel"] ** 2)) == pytest.approx(0.5 * 0.3, rel=0.2)


@pytest.mark.parametrize(
    ("name", "points"),
    [("mlp", ((2,), (3,))), ("spline", ((4,), (6,)))]
    + [pytest.param(net, ((8, 8, 1), (8, 8, 3)), marks=pytest.mark.slow) for net in IMAGES],
)
def test_muon_leaves_the_layers_that_touch_the_data(name: str, points: Any) -> None:
    """A kernel whose shape changes with the data's is in the first or the last layer, and so Adam's; Muon has others,
    kernels alone: all of an MLP's and of the networks in a coupling flow, and in a network for images those that are in its blocks.
    """
    one, other = (structure(NETS[name](), shape)[1] for shape in points)
    kernels = {key for key in one if key.endswith("kernel")}
    touching = {key for key in kernels if one[key].shape != other[key].shape}
    assert touching and hidden(list(one)) == kernels - touching - ASIDE
    assert hidden(list(one)) and (name in ("mlp", "spline") or kernels > ASIDE)


def test_muon_refuses_a_net_without_hidden_matrices() -> None:
    """An input and an output layer only: it would be Adam, and says so."""
    shallow = {name: x for name, x in parameters().items() if name.startswith(("layers/0", "layers/1"))}
    with pytest.raises(UserError, match="muon needs a hidden matrix"):
        Muon().transform(10).init(shallow)


EVERY = [pytest.param(kind(), id=name) for name, kind in OPTIMIZERS.items()]


@pytest.mark.parametrize("optimizer", EVERY)
def test_clip(optimizer: Optimizer) -> None:
    """Gradients of norm up to 10: a clip at 10.1 changes nothing; one at 2 makes the first memory of them a fifth, and
    of their squares, where there is any, a twenty-fifth, parameter by parameter.
    """
    free, state = moves(optimizer, 3)
    above, same = moves(dataclasses.replace(optimizer, clip=10.1), 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9), (free, state), (above, same))
    memories = moves(optimizer)[1], moves(dataclasses.replace(optimizer, clip=2.0))[1]
    for key, ratio in (("mu", 0.2), ("nu", 0.04)):
        one, other = (
            [jax.tree.leaves(x) for _, x in optax.tree_utils.tree_get_all_with_path(m, key)] for m in memories
        )
        assert one or key == "nu"
        jax.tree.map(lambda a, b, ratio=ratio: np.testing.assert_allclose(b, ratio * a, rtol=1e-5), one, other)


@pytest.mark.parametrize("optimizer", [item for item in EVERY if hasattr(item.values[0], "weight_decay")])
def test_decay_is_apart_from_the_gradient_and_of_kernels_alone(optimizer: Any) -> None:
    """What a decay adds to a step is -rate decay x for every kernel, first and last among them, and nothing else."""
    with_decay, without = (moves(steady(optimizer, lr=0.1, weight_decay=d))[0] for d in (0.5, 0.0))
    for name, x in parameters().items():
        added = np.asarray(with_decay[name][0] - without[name][0])
        np.testing.assert_allclose(added, -0.05 * x if name.endswith("kernel") else 0 * x, atol=1e-6)


def batch_of(optimizer: Optimizer) -> Optimizer:
    """Three of its kind in one: every number, the clip's and the decay's too, is three numbers."""
    given = dataclasses.replace(optimizer, lr=0.1, warmup=2.0, schedule="wsd", decay=0.4, clip=5.0)
    return jax.tree.map(lambda x: x * jnp.array([1.0, 0.8, 0.5]), given)


@pytest.mark.parametrize("optimizer", EVERY)
def test_numbers_can_be_vmapped(optimizer: Optimizer) -> None:
    """Three steps of three settings at once, all their numbers different, are the three steps of each by itself."""
    many = batch_of(optimizer)
    together = jax.jit(jax.vmap(lambda one: moves(one, 3, 4)[0]))(many)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: float(leaf[i]), many)
        alone = moves(one, 3, 4)[0]
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=2e-3, atol=1e-7), together, alone)
    assert all(float(jnp.abs(x[0] - x[2]).max()) > 1e-6 for x in jax.tree.leaves(together))


@pytest.mark.parametrize("optimizer", EVERY)
def test_one_program_serves_every_number(optimizer: Optimizer) -> None:
    """The numbers are traced: other ones compile nothing, every one has its say, and no clip is another program."""
    traced = []

    @jax.jit
    def first(chosen: Optimizer, steps: Any) -> Any:
        traced.append(chosen.schedule)
        return moves(chosen, 3, steps)[0]

    base = dataclasses.replace(optimizer, lr=0.1, warmup=2.0, schedule="wsd", decay=0.9, clip=9.0)
    before = first(base, 4)
    for field in dataclasses.fields(optimizer):
        if field.name != "schedule":
            other = 0.1 if field.name in ("eps", "clip") else 0.7 * getattr(base, field.name)
            changed = first(dataclasses.replace(base, **{field.name: other}), 4)
            differences = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), before, changed)
            assert max(differences.values()) > 1e-6, field.name
    assert traced == ["wsd"]
    first(dataclasses.replace(base, clip=None), 4)
    assert len(traced) == 2


@pytest.mark.parametrize("optimizer", EVERY)
def test_descends(optimizer: Optimizer) -> None:
    """Three linear layers learn the linear map that another three are: the loss falls a thousandfold in 300 steps."""
    wanted, x = parameters(), jax.random.normal(jax.random.key(9), (64, 3))

    def output(params: Any) -> jax.Array:
        h = x
        for i in range(3):
            h = h @ params[f"layers/{i}/kernel"] + params[f"layers/{i}/bias"]
        return h

    def loss(params: Any) -> jax.Array:
        return jnp.mean((output(params) - output(wanted)) ** 2)

    chosen = dataclasses.replace(optimizer, lr=0.03, warmup=10.0, schedule="wsd")
    transform = chosen.transform(300)

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        updates, state = transform.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = jax.tree.map(lambda leaf: 0.5 * jnp.roll(leaf, 1), wanted)
    end = jax.jit(lambda p: jax.lax.scan(step, (p, transform.init(p)), None, 300)[0][0])(start)
    assert float(loss(end)) < 1e-3 * float(loss(start))


@pytest.mark.parametrize("optimizer", EVERY)
def test_states_can_be_kept(optimizer: Optimizer, tmp_path: Path) -> None:
    """A checkpoint gives back every array of the state in its place, and of one structure with and without a clip."""
    opt_state = moves(optimizer, 3)[1]
    state = TrainState(jnp.asarray(3), parameters(), parameters(), opt_state)
    manager = checkpoints.CheckpointManager(tmp_path, 1, lambda saved: None)
    manager.save(3, state_to_dict(state))
    manager.wait()
    empty = jax.tree.map(jnp.zeros_like, state)
    back = state_from_dict(empty, checkpoints.load(tmp_path, pytest.fail)[1], tmp_path)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    clipped = dataclasses.replace(optimizer, clip=1.0).transform(100)
    assert jax.tree.structure(jax.eval_shape(clipped.init, parameters())) == jax.tree.structure(opt_state)


def test_adam_follows_its_schedule() -> None:
    """Under constant gradients Adam's steps are the learning rates themselves: warm-up, cosine and 0 at the end."""
    transform = Adam(lr=0.01, warmup=4.0, schedule="cosine", eps=1e-12).transform(40)
    x = jnp.zeros(())
    state, steps = transform.init(x), []
    update = jax.jit(transform.update)
    for _ in range(41):
        change, state = update(jnp.float32(2.5), state, x)
        steps.append(-float(change))
    np.testing.assert_allclose(steps, schedule(0.01, 4, "cosine", 40), rtol=1e-4, atol=1e-9)


def test_decay_is_a_fifth_unless_given() -> None:
    """Of 100 steps the last 20 decay (step 80 is the peak still), or as many as asked."""
    for adam, first in ((Adam(schedule="wsd", warmup=0.0), 80), (Adam(schedule="wsd", warmup=0.0, decay=0.5), 50)):
        rates = [float(adam.rate(100, step)) for step in range(100)]
        assert sum(rate > 0.0099 for rate in rates) == first + 1


@pytest.mark.parametrize("optimizer", EVERY)
def test_every_number_has_a_range(optimizer: Any) -> None:
    """The defaults pass, and below its range each number is refused by its name."""
    words = dataclasses.asdict(optimizer)
    assert read(type(optimizer), words) == optimizer
    for name in words.keys() - {"schedule"}:
        with pytest.raises(UserError, match=f"{name} is -1.0; it must be "):
            read(type(optimizer), words | {"schedule": "wsd", name: -1.0})


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (Adam(lr=0.0), "lr is 0.0; it must be positive"),
        (Adam(b1=1.0), r"b1 is 1.0; it must be in \[0, 1\)"),
        (AdamW(b2=1.0), "b2 is 1.0"),
        (Muon(momentum=1.0), "momentum is 1.0"),
        (Adam(eps=0.0), "eps is 0.0"),
        (Lion(clip=0.0), "clip is 0.0; it must be positive"),
        (Adam(schedule="linear"), "schedule is 'linear'; choose one of constant, cosine, wsd, wsd_linear"),
        (Adam(schedule="wsd", decay=0.0), r"decay is 0.0; it must be in \(0, 1\]"),
        (Adam(schedule="wsd", decay=1.1), "decay is 1.1"),
        (Adam(decay=0.2), "decay is 0.2; schedule=cosine has none, take wsd"),
    ],
    ids=repr,
)
def test_checks_refuse_bad_numbers(optimizer: Optimizer, message: str) -> None:
    """Numbers at the open ends of their ranges are refused, and a decay that no schedule would read."""
    with pytest.raises(UserError, match=message):
        read(type(optimizer), dataclasses.asdict(optimizer))
