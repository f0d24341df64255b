"""Fixtures that many tests share: double precision, every path, and the reference values."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import atomic_files, mixtures, signals
from diffsde.fields import Field
from diffsde.mixtures import Mixture
from diffsde.paths import EDM, GAUSSIAN, PATHS, VE, VP, Cosine, Expression, GaussianPath, SubVP, coefficients, log_snr
from diffsde.runs import files, formats, machine, shapes
from diffsde.samplers import LoopSettings, simulate
from diffsde.samplers.sampler import Sampler
from diffsde.state import STATE
from diffsde.types import Coefficients

# Two thirds of the tests' time is XLA's compiling. With these it takes a third less, and what is compiled computes the same
# slower; the slow tests are run without. Another version may not know them, and would end the process.
QUICK_COMPILING = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"
KNOWN_BY = "0.10."

REFERENCE = Path(__file__).parent / "data" / "gaussian_paths.json"

EVERY_PATH: dict[str, GaussianPath] = {
    **{name: cls() for name, cls in PATHS.items() if name in GAUSSIAN and name != "expression"},
    "expression": Expression(alpha_t="t**2", beta_t="(1-t)*(1+t)"),
    "expression-variance": Expression(alpha_t="t", variance_t="1-t**2"),
    "cosine-plain": Cosine(offset=0.0),
    "vp-mild": VP(rate_min=0.5, rate_max=8.0),
    "subvp-flat": SubVP(rate_min=4.0, rate_max=4.0),
    "ve-narrow": VE(noise_min=0.1, noise_max=10.0),
    "edm-linear": EDM(noise_min=0.05, noise_max=20.0, rho=1.0),
}


def pytest_configure(config: pytest.Config) -> None:
    """Before the first program, and for the processes that tests start."""
    if config.option.markexpr == "not slow" and jax.__version__.startswith(KNOWN_BY):
        os.environ.setdefault("XLA_FLAGS", QUICK_COMPILING)


@contextmanager
def double_precision() -> Iterator[None]:
    """float64 inside; arrays that are used there have to be made there."""
    before = bool(jax.config.read("jax_enable_x64"))
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


@pytest.fixture(autouse=True)
def a_command_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins the machine anew, though one process runs them all, some with threads=1 and some without; the first of a
    module begins after the module's own fixtures, which may have run commands.
    """
    monkeypatch.setenv("NPROC", "")
    monkeypatch.delenv("NPROC")
    _forget()
    yield
    _forget()


def _forget() -> None:
    STATE.machine = None
    STATE.parts.clear()
    STATE.plugins.clear()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which the test is in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def x64() -> Iterator[None]:
    """float64 for one test; arrays that it uses have to be made inside it."""
    with double_precision():
        yield


@cache
def _program(path: GaussianPath) -> Callable[..., Any]:
    return jax.jit(jax.vmap(lambda t: (coefficients(path, t), log_snr(path, t), path.variance(t))))


def known(path: GaussianPath, times: np.ndarray) -> tuple[Coefficients, np.ndarray, np.ndarray]:
    """Coefficients, log(alpha/beta) and beta^2 at up to 100 times; one compiled program a path, for all tests."""
    padded = jnp.asarray(np.pad(np.asarray(times), (0, 100 - len(times)), mode="edge"), float)
    return jax.tree.map(lambda part: np.asarray(part)[: len(times)], _program(path)(padded))


def on_every_path(times: np.ndarray) -> Coefficients:
    """The coefficients of every path at these times, one path after another, shapes (paths * times,)."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *(known(path, times)[0] for path in EVERY_PATH.values()))


@partial(jax.jit, static_argnames="count")
def _samples(mixture: Mixture, seed: int, count: int) -> jax.Array:
    return mixtures.sample(mixture, jax.random.key(seed), count)


def samples(mixture: Mixture, count: int = 20_000, seed: int = 0) -> np.ndarray:
    """Points of a mixture (count, d); one compiled program for all mixtures of one shape."""
    return np.asarray(_samples(mixture, seed, count))


_simulate = jax.jit(simulate, static_argnames="settings")


def ends(
    sampler: Sampler, field: Field, x: jax.Array, grids: list[jax.Array], seed: int = 0, **words: Any
) -> list[jax.Array]:
    """Where each grid takes the points x (n, *shape); one compiled program for all, as they are padded to the longest."""
    longest, key = max(map(len, grids)), jax.random.key(seed)
    return [
        _simulate(
            sampler, field, x, jnp.pad(grid, (0, longest - len(grid))), key, None, len(grid) - 1, LoopSettings(**words)
        ).x
        for grid in grids
    ]


@pytest.fixture(params=list(EVERY_PATH))
def path(request: pytest.FixtureRequest) -> GaussianPath:
    """Every entry of PATHS with its defaults, and some with other numbers."""
    return EVERY_PATH[request.param]


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of MNIST's original files, which are no part of the repository: $DIFFSDE_SHARED/mnist, or shared/mnist
    beside it. DIFFSDE_DATA points there in this test.
    """
    folder = Path(os.environ.get("DIFFSDE_SHARED") or Path(__file__).resolve().parents[2] / "shared") / "mnist"
    if not folder.is_dir():
        pytest.skip(f"MNIST's files are not here: no {folder}; set DIFFSDE_SHARED to the folder that holds mnist/")
    monkeypatch.setenv("DIFFSDE_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def reference() -> list[dict[str, Any]]:
    """The 168 cases computed elsewhere with 50 digits."""
    cases = json.loads(REFERENCE.read_text())["cases"]
    assert len(cases) == 168
    return cases


@pytest.fixture(scope="session", autouse=True)
def _programs_kept() -> Iterator[None]:
    """In a folder that only tests use: on a machine that ran them before they take half the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(machine.cache_home() / "tests"))
        machine.set_compilation_cache(True, None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _what_is_written_can_be_read() -> Iterator[None]:
    """By every command that a test runs in this process: a file of a run's folder has the shape that its readers demand."""
    wanted: dict[str, Callable[[Any], str | None]] = {"config.json": formats.fault} | {
        f"{name}.json": partial(shapes.fault, wanted=getattr(shapes, name.upper()))
        for name in ("summary", "error", "sweep", "study")
    }

    def checked(path: Path, save: Callable[[Path], object]) -> Path:
        written = atomic_files.write_atomically(path, save)
        if path.name in wanted:
            assert (why := wanted[path.name](json.loads(written.read_text()))) is None, f"{path}: {why}"
        return written

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "write_atomically", checked)
        yield


@pytest.fixture(scope="session", autouse=True)
def _signals_heard() -> Iterator[None]:
    """As at a terminal, where the tests were begun by nohup or in the background of a script, too."""
    ours = (signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL)
    before = [signal.signal(number, each) for number, each in zip(signals.NUMBERS, ours, strict=True)]
    yield
    for number, handler in zip(signals.NUMBERS, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def _memory_given_back() -> Iterator[None]:
    """What is right for one run, to keep the memory of every step, would let a process of hundreds of runs only grow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffsde.memory.tune_malloc", lambda: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def _programs_forgotten() -> Iterator[None]:
    """All compiled programs, after each file of tests: each takes some of the 65,530 memory maps that Linux allows a process,
    and what is compiled, or read from the cache, beyond them ends in a segmentation fault.
    """
    yield
    STATE.programs.clear()
    jax.clear_caches()
