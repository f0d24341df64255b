"""Parts of the user's own: by plugins=[...] and diffsde.register, without touching the package."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffsde
from diffsde.cli.main import composed, main
from diffsde.datasets import Dataset
from diffsde.paths import OT, GaussianPath
from diffsde.samplers import Sampler
from diffsde.samplers.ode import Euler
from diffsde.state import STATE
from diffsde.types import choice

PAGE = (Path(__file__).parent.parent / "docs" / "plugins.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
SMALL = ["n=40", "steps=4", "pictures=none", "cache=false"]


@pytest.fixture
def parts(here: Path) -> Path:
    """The page's plugins as files next to you."""
    for name, text in FILES.items():
        (here / name).write_text(text)
    return here


@choice
class Slow(GaussianPath):
    power: float = 2.0
    formula: ClassVar[tuple[str, str]] = ("t**power", "1-t**power")

    def alpha(self, t):  # type: ignore[no-untyped-def]
        return t**self.power

    def beta(self, t):  # type: ignore[no-untyped-def]
        return 1 - t**self.power

    def variance(self, t):  # type: ignore[no-untyped-def]
        return (1 - t**self.power) ** 2


def test_one_file_works_everywhere(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path, a dataset and a sampler: in explain, train, sample and Python; a run asks for its plugin by name."""
    assert len(FILES["my_parts.py"].splitlines()) <= 60
    own = "plugins=[my_parts.py]"
    assert main(["explain", own, "path=cubic", "path.power=2", "dataset=segment", "sampler=ralston"]) == 0
    said = capsys.readouterr().out
    assert "x_t = (t**2) z + (1-t**2) eps" in said and "order 2" in said
    train = [
        "train",
        own,
        "path=cubic",
        "dataset=segment",
        "net=mlp",
        "net.widths=[8]",
        "steps=2",
        "posterior_points=0",
    ]
    assert main([*train, "pictures=none", "hydra.run.dir=run"]) == 0
    kept = json.loads(Path("run/config.json").read_text())
    assert kept["plugins"] == {"my_parts.py": ["dataset=segment", "path=cubic"]} and "plugins" not in kept["config"]
    assert main(["sample", own, "run=run", "sampler=ralston", *SMALL, "hydra.run.dir=drawn"]) == 0
    drawn = diffsde.load("run").sample(sampler="ralston", n=40, steps=4, cache=False)
    np.testing.assert_array_equal(drawn.x, np.load("drawn/samples.npz")["x"])
    assert np.abs(diffsde.load("run").dataset.draw((), jax.random.key(0), 99)[:, 1]).max() == 0  # type: ignore[union-attr]
    for group, word in (("path", "cubic"), ("dataset", "segment"), ("sampler", "ralston")):
        assert diffsde.check(group, word) == []

    STATE.parts.clear()  # as in another process
    STATE.plugins.clear()
    capsys.readouterr()
    assert main(["sample", "run=run", *SMALL]) == 2
    assert capsys.readouterr().err == (
        "diffsde: run: 'run' needs dataset=segment, path=cubic, of a plugin; say plugins=[my_parts.py] too\n"
    )


def test_an_error_in_a_plugins_code_is_a_line_that_says_where(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its own errors, and of those of calls that it makes; with the traceback where that is asked for."""
    text = FILES["my_parts.py"].replace("return t**self.power", "return t**self.power[0]", 1)
    (here / "bad.py").write_text(text)
    (line,) = (i for i, code in enumerate(text.splitlines(), 1) if "power[0]" in code)
    words = ["explain", "plugins=[bad.py]", "path=cubic", "sampler=em"]
    assert main(words) == 2
    said = capsys.readouterr().err
    where = rf"plugins: Cubic\.\w+, bad\.py line {line}"
    assert re.fullmatch(rf"diffsde: {where}: IndexError: .* \(DIFFSDE_DEBUG=1 shows the traceback\)\n", said), said
    monkeypatch.setenv("DIFFSDE_DEBUG", "1")
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and "power[0]" in said and re.search(rf"\ndiffsde: {where}: IndexError", said)


def test_an_error_of_the_system_in_a_plugins_code_is_the_plugins(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a command the line says where; in Python it is raised as it is."""
    text = FILES["my_parts.py"].replace("return t**self.power", "open('weights.npy'); return t", 1)
    (here / "bad.py").write_text(text)
    assert main(["sample", "plugins=[bad.py]", "run=oracle", "dataset=gmm", "path=cubic", *SMALL]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"diffsde: plugins: Cubic\.\w+, bad\.py line \d+: FileNotFoundError: .*'weights.npy'.*\n", said
    ), said
    with pytest.raises(FileNotFoundError):
        diffsde.oracle(plugins=["bad.py"], dataset="gmm", path="cubic").sample(n=40, steps=4, cache=False)


@pytest.mark.slow
def test_a_net_a_diffusion_and_a_metric(parts: Path) -> None:
    """The page's other plugin: each is used, and sigma= is short for the diffusion's own sigma."""
    small = {"steps": 2, "posterior_points": 0, "precondition": True}
    run = diffsde.train(plugins=["my_more"], dataset="moons", net="linear", **small)
    assert run.summary["parameters"] == 2 * 3 + 2
    drawn = run.sample(sampler="em", diffusion="late", sigma=0.7, n=32, steps=2)
    assert drawn.config["sampler"]["diffusion"] == {"name": "late", "sigma": 0.7}
    still = run.sample(sampler="em", diffusion="late", sigma=0.0, n=32, steps=2)
    assert np.abs(drawn.x - still.x).max() > 1e-3
    found = diffsde.evaluate(run, metrics="radius", n=32, steps=2, sampler="euler").figures["radius"]
    assert found.reference is not None and found.reference.kind == "real" and 0.5 < found.reference.value < 2
    with pytest.raises(ValueError, match="did you mean 'radius'"):
        diffsde.evaluate(run, metrics="radii", n=32)
    assert composed("train", ["metric=w2"])["metric"] == "w2"  # a knob, which a group of that name would hide


def test_a_process(parts: Path) -> None:
    """The page's Cox-Ingersoll-Ross process has its known mean and variance; that its noise depends on x is seen."""
    words = {"plugins": ["my_process.py"], "process": "cir", "theta": 2.0, "x0": 3.0, "pictures": "none"}
    found = diffsde.simulate(**words, n=4000, steps=200).figures
    decay = np.exp(-2.0)
    variance = 3 * 0.25 / 2 * (decay - decay**2) + 0.25 / 4 * (1 - decay) ** 2
    for name, exact in (("mean", 1 + 2 * decay), ("variance", variance)):
        figure = found[name]
        assert figure.error is not None and abs(figure.value - exact) < 4 * figure.error + 0.01 * exact, name
    with pytest.raises(ValueError, match="Stratonovich"):
        diffsde.simulate(**words, sampler="stochastic_heun")
    alone = diffsde.simulate(**words, n=1, steps=4).figures
    assert "mean" in alone and not any("variance" in name for name in alone)  # one path has none


def test_a_path_is_one_of_several(parts: Path) -> None:
    assert main(["show", "plugins=[my_parts.py]", "what=path", "paths=[ot,cubic]", "hydra.run.dir=shown"]) == 0


def test_a_file_of_others_loads_nothing(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither an experiment's YAML nor a run's config.json: only one's own command line."""
    (parts / "conf" / "experiment" / "explain").mkdir(parents=True)
    (parts / "conf" / "experiment" / "train").mkdir(parents=True)
    (parts / "conf" / "experiment" / "train" / "theirs.yaml").write_text(
        "# @package _global_\nplugins: [my_parts.py]\n"
    )
    assert main(["train", "--config-dir", "conf", "experiment=theirs", "steps=1"]) == 2
    assert not STATE.parts


@pytest.mark.slow
def test_sweeps_over_own_parts(parts: Path) -> None:
    words = ["sample", "-m", "plugins=[my_parts.py]", "run=oracle", "dataset=gmm", "path=ot,cubic", "sampler=ralston"]
    assert main([*words, *SMALL, "hydra.sweep.dir=sweep"]) == 0
    table = Path("sweep/sweep.csv").read_text().splitlines()
    assert len(table) == 3 and "done" in table[2] and "cubic" in table[2]


def test_help_shows_own_parts(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "plugins=my_parts", "path=cubic", "--help"]) == 0
    said = capsys.readouterr().out
    assert "path.power=3.0" in said and " cubic " in said and "ralston" in said


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        ("", ["plugins=[my_prts.py]"], r"there is no file 'my_prts.py' \(did you mean 'my_parts.py'\?\)"),
        ("", ["plugins=my_prts"], r"neither a module 'my_prts' nor a file 'my_prts.py' \(did you mean 'my_parts'\?\)"),
        ("x = = 1", ["plugins=bad"], "'bad' line 1: SyntaxError: invalid syntax"),
        ("\nimport nothing_there", ["plugins=bad.py"], "'bad.py' line 2: ModuleNotFoundError: No module named 'noth"),
        ("x = 1", ["plugins=bad.py"], r"'bad.py' adds nothing; say in it diffsde.register\("),
        (FILES["my_parts.py"], ["plugins=[my_parts.py,bad.py]"], "path 'cubic' is Cubic of plugin my_parts.py already"),
        ("", ["plugins=[my_parts.py]", "path=cubi"], r"'cubi' is not a choice \(did you mean 'cubic'\?\)"),
        (
            "",
            ["plugins=[my_parts.py]", "path=cubic", "path.powr=1"],
            r"path.powr is not known \(did you mean 'path.power'",
        ),
        ("", ["plugins=[my_parts.py]", "path=cubic", "path.power=x"], "path.power is 'x'; it must be a number"),
        ("", ["path=cubic"], "path:? 'cubic' is not a (choice|path)"),
        ("", ["plugins=[]"], "names no plugin"),
        ("", ["plugin=[my_parts.py]"], r"plugin is not known \(did you mean 'plugins'\?\)"),
    ],
)
def test_mistakes_are_said_in_a_line(
    text: str, words: list[str], says: str, parts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (parts / "bad.py").write_text(text)
    assert main(["explain", *words]) == 2
    error = capsys.readouterr().err
    assert re.search(says, error) and error.count("\n") == 1


class NoPath:
    pass


class Undecorated(OT):
    pass


@choice
class Half(GaussianPath):
    def alpha(self, t):  # type: ignore[no-untyped-def]
        return t


@choice
class Array(OT):
    table: jax.Array | None = None


@pytest.mark.parametrize(
    ("group", "word", "cls", "says"),
    [
        ("path", "ot", Slow, "path 'ot' is diffsde's own OT"),
        ("pth", "slow", Slow, r"'pth' is not a group \(did you mean 'path'\?\)"),
        ("path", "My Path", Slow, "'My Path' is not a word"),
        ("path", "mine", NoPath, r"NoPath is not a path; write class NoPath\(GaussianPath\), from diffsde.paths"),
        ("path", "mine", Undecorated, "Undecorated is not a dataclass; decorate it with @choice"),
        ("path", "mine", Half, "Half has no formula and no beta and no variance, which a path must have"),
        ("path", "mine", Array, "Array.table is of type .*, which no config holds"),
        ("path", "mine", Slow(), "is not a class"),
        ("sampler", "mine", Slow, r"write class Slow\(Sampler\)"),
    ],
)
def test_register_refuses_what_does_not_fit(group: str, word: str, cls: type, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        diffsde.register(group, word, cls)
    assert not STATE.parts


def test_a_class_defined_again_replaces_itself(here: Path) -> None:
    diffsde.register("path", "slow", Slow)
    again = type("Slow", (Slow,), {"__module__": Slow.__module__, "__qualname__": Slow.__qualname__})
    again = choice(again)
    diffsde.register("path", "slow", again)
    assert STATE.parts["path", "slow"].cls is again
    with pytest.raises(ValueError, match=r"'slow' is Slow of plugin .* already"):
        diffsde.register("path", "slow", choice(type("Other", (Slow,), {"__annotations__": {}})))


def test_objects_of_own_classes_are_choices() -> None:
    with pytest.raises(ValueError, match=r"path: Slow is no choice yet; diffsde.register\('path', 'my_path', Slow\)"):
        diffsde.oracle(dataset="gmm", path=Slow())
    diffsde.register("path", "slow", Slow)
    exact = diffsde.oracle(dataset="gmm", path=Slow(power=1.0))  # which is ot
    x = np.array([[1.0, 2.0], [0.0, 5.0]])
    np.testing.assert_allclose(exact.velocity(x, 0.4), diffsde.oracle(dataset="gmm", path="ot").velocity(x, 0.4), 1e-4)


@choice
class WrongVariance(Slow):
    def variance(self, t):  # type: ignore[no-untyped-def]
        return 1 - t**self.power


@choice
class Falling(OT):
    formula: ClassVar[tuple[str, str]] = ("t*(1-t)", "1-t")

    def alpha(self, t):  # type: ignore[no-untyped-def]
        return t * (1 - t)


@choice
class FirstOrder(Euler):
    order: ClassVar[int] = 2


@choice
class Noisy(Sampler):
    """Twice the noise that it should have."""

    order: ClassVar[int] = 1
    evaluations: ClassVar[int] = 1
    evaluates_end: ClassVar[bool] = False
    stochastic: ClassVar[bool] = True

    def step(self, field, x, t, h, key):  # type: ignore[no-untyped-def]
        p = field.output(x, t)
        noise = 0.0 if key is None else jax.random.normal(key, x.shape)
        return x + h * (p.velocity + p.score / 2) + 2 * jnp.sqrt(h) * noise


@choice
class Frozen(Dataset):
    def load(self):  # type: ignore[no-untyped-def]
        return ()

    def draw(self, arrays, key, count):  # type: ignore[no-untyped-def]
        return jax.random.normal(jax.random.key(3), (count, 2))


@pytest.mark.parametrize(
    ("group", "cls", "says"),
    [
        ("path", WrongVariance, "variance is .* where beta"),
        ("path", Falling, "alpha/beta must increase"),
        ("sampler", FirstOrder, "order is 2, but twice the steps make the error .* order 1"),
        ("sampler", Noisy, "the samples' std is 1.* times the data's"),
        ("dataset", Frozen, "draws with two keys are the same"),
    ],
)
def test_check_finds_what_is_wrong(group: str, cls: type, says: str) -> None:
    diffsde.register(group, "mine", cls)
    assert any(re.search(says, line) for line in diffsde.check(group, "mine"))


@pytest.mark.parametrize(
    ("group", "word"),
    [("path", "vp"), ("path", "ve"), ("sampler", "heun"), ("sampler", "em"), ("dataset", "moons"), ("metric", "w2")],
)
def test_check_finds_nothing_in_what_is_right(group: str, word: str) -> None:
    assert diffsde.check(group, word) == []
