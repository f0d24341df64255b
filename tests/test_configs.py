"""configs/ and the tables of build.py are one thing said twice: they must agree."""

import dataclasses
import json
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from diffsde import knobs
from diffsde.build import GROUPS, keys_of, read, read_parts, table
from diffsde.cli import help_text
from diffsde.cli.job import VERBS
from diffsde.cli.main import composed
from diffsde.errors import UserError
from diffsde.evaluation.in_training import metric_words
from diffsde.likelihood import GRIDS as SOLVER_GRIDS
from diffsde.likelihood import PROBES, SOLVERS
from diffsde.nets.dit import POSITIONS
from diffsde.nets.layers import ACTIVATIONS
from diffsde.objectives import WEIGHTS
from diffsde.optimizers import SCHEDULES
from diffsde.runs import folder, formats, show_config
from diffsde.runs.machine import PRECISIONS, Machine
from diffsde.runs.old_words import in_words_of_now
from diffsde.runs.outputs import Outputs
from diffsde.runs.process_config import SimulateConfig
from diffsde.runs.sample_config import SampleConfig, Sampling, Stepping
from diffsde.runs.train_config import TrainConfig, train_choices
from diffsde.samplers.adaptive import PAIRS
from diffsde.samplers.corrector import NORMS
from diffsde.samplers.sampler import LAST_STEPS
from diffsde.verbs import evaluate
from diffsde.verbs.explain import ExplainConfig

CONFIGS = Path(__file__).parent.parent / "configs"
TABLES = {group: (kind, table(kind)) for kind, group in GROUPS.items()}
# The dataclasses that a verb's config is read into; a new verb's stand here too.
PARTS: dict[str, tuple[type, ...]] = {
    "train": (Machine, Outputs, TrainConfig),
    "sample": (Machine, Outputs, SampleConfig),
    "evaluate": evaluate.PARTS,
    "simulate": (Machine, Outputs, SimulateConfig),
    "explain": (ExplainConfig,),
    "show": show_config.PARTS,
}
CHOICES = [(group, path.stem) for group in TABLES for path in sorted((CONFIGS / group).glob("*.yaml"))]


def load(group: str, choice: str) -> dict:
    return yaml.safe_load((CONFIGS / group / f"{choice}.yaml").read_text())


def nested(content: dict) -> dict:
    """Groups nested by a defaults list: {'diffusion': 'constant'}."""
    return {key.split("@")[1]: value for entry in content.get("defaults", []) for key, value in entry.items()}


@pytest.mark.parametrize("group", TABLES)
def test_files_are_the_tables_entries(group: str) -> None:
    """Every entry has a file of its name; a file of another name is a preset, a published point of an entry."""
    names = {path.stem: load(group, path.stem)["name"] for path in (CONFIGS / group).glob("*.yaml")}
    assert {stem for stem, name in names.items() if stem == name} == set(TABLES[group][1])
    assert set(names.values()) <= set(TABLES[group][1])


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_keys_are_the_fields(group: str, choice: str) -> None:
    content = load(group, choice)
    keys = set(content) - {"name", "defaults"} | set(nested(content))
    assert keys == {field.name for field in dataclasses.fields(TABLES[group][1][content["name"]])}


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_files_say_the_classes_defaults(group: str, choice: str) -> None:
    """A class built in Python and one chosen on the command line are equal, interpolated knobs (${default:${lr},0.01})
    left null.
    """
    content = {
        key: yaml.safe_load(fallback[1]) if (fallback := re.fullmatch(r"\$\{default:.*,(.+)\}", str(value))) else value
        for key, value in load(group, choice).items()
    }
    for field in dataclasses.fields(TABLES[group][1][content["name"]]):
        if field.name in content and not str(content[field.name]).startswith("${"):
            default = field.default
            as_lists = (
                [list(row) if isinstance(row, tuple) else row for row in default]
                if isinstance(default, tuple)
                else default
            )
            assert content[field.name] == as_lists, field.name


def scalars(hint: Any) -> set[type]:
    """The kinds of number, word or switch in a hint, those of the entries of lists too."""
    members = [member for member in typing.get_args(hint) if member not in (type(None), Ellipsis)]
    return set().union(*map(scalars, members)) if members else {hint} & {int, float, bool, str}


FREE_NUMBERS = {"matrix", "labels"}  # lists of numbers, or other words


def test_every_number_and_switch_has_a_knob_of_its_kind() -> None:
    """What the command line refuses before the classes are imported is what the classes' own types say."""
    used = set()
    for group, (_, choices) in TABLES.items():
        for choice, cls in choices.items():
            for name, hint in typing.get_type_hints(cls).items():
                if name not in {field.name for field in dataclasses.fields(cls)} or name in FREE_NUMBERS:
                    continue
                used.add(check_kind(hint, name, group, choice))
    for cls in {part for parts in PARTS.values() for part in parts}:
        for name, hint in typing.get_type_hints(cls).items():
            if name not in FREE_NUMBERS:
                used.add(check_kind(hint, name, "", ""))
    assert knobs.KNOBS.keys() <= used


def check_kind(hint: Any, name: str, group: str, choice: str) -> str:
    """The key of KNOBS that holds for a field, of which kind it must be; '' where the field is text."""
    kinds, knob = scalars(hint), knobs.knob(name, group, choice)
    key = next((key for key in (f"{choice}.{name}", f"{group}.{name}", name) if key in knobs.KNOBS), "")
    if isinstance(knob, knobs.Number):
        assert kinds == {int if knob.whole else float}, (group, choice, name)
    elif isinstance(knob, knobs.Switch):
        assert kinds == {bool}, (group, choice, name)
    elif isinstance(knob, knobs.Word | knobs.Text | knobs.NumberOr | knobs.Label):
        assert kinds == {str}, (group, choice, name)
    else:
        assert not kinds & {int, float, bool}, (group, choice, name)
    return key


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("schedule", SCHEDULES),
        ("activation", ACTIVATIONS),
        ("weight", WEIGHTS),
        ("metric", metric_words()),
        ("precision", PRECISIONS),
        ("positions", POSITIONS),
        ("norm", NORMS),
        ("pair", PAIRS),
        ("solver", SOLVERS),
        ("solver_grid", SOLVER_GRIDS),
        ("probe", ("auto", *PROBES)),
        ("last", ("auto", *LAST_STEPS)),
    ],
)
def test_words_are_those_of_the_code(name: str, choices: Iterable[str]) -> None:
    knob = knobs.KNOBS[name]
    assert isinstance(knob, knobs.Word) and set(knob.choices) == set(choices)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be 1 or more"),
        ({"steps": "many"}, "steps is 'many'; it must be a whole number"),
        ({"steps": 1.5}, "steps is 1.5; it must be a whole number"),
        ({"seed": 2**31}, r"seed is 2147483648; it must be in \[0, 2\^31\)"),
        ({"ema": [0.9, 1.0]}, r"ema\[1\] is 1.0; it must be in \[0, 1\)"),
        ({"lr": float("nan")}, "lr is nan; it must be a number"),
        ({"cache": "yes"}, "cache is 'yes'; it must be true or false"),
        ({"net": {"name": "mlp", "widths": [64, 0]}}, r"net.widths\[1\] is 0; it must be 1 or more"),
        ({"dataset": {"name": "array", "std": [-1.0]}}, r"dataset.std\[0\] is -1.0; it must be 0 or more"),
        ({"dataset": {"name": "gmm", "std": 0}}, "dataset.std is 0; it must be positive"),
        (
            {"dataset": {"name": "fixed", "drawn_from": {"name": "moons", "scale": 0}}},
            "dataset.drawn_from.scale is 0; it must be positive",
        ),
        (
            {"sampler": {"name": "em", "diffusion": {"name": "constant", "sigma": -1}}},
            "sampler.diffusion.sigma is -1; it must be 0 or more",
        ),
        ({"optimizer": {"name": "muon", "rms": 0}}, "optimizer.rms is 0; it must be positive"),
        ({"optimizer": {"name": "adam", "schedule": "cosin"}}, "optimizer.schedule is 'cosin'; choose one of constant"),
        ({"sigma": 1e300}, r"sigma is 1e\+300; it must be at most 1e\+12 in size"),
        ({"sigma": "1e-300"}, "sigma is '1e-300'; it must be 0, or at least 1e-12 in size"),
        ({"optimizer": {"name": "adam", "clip": 1e-50}}, "optimizer.clip is 1e-50; it must be at least 1e-12 in size"),
        (
            {"ema": 0.999999999},
            r"ema is 0.999999999; it must be in \[0, 1\) in single precision too, which makes 1 of it",
        ),
        ({"sampler": {"name": "em", "diffusion": 1e-8}}, "sampler.diffusion is 1e-08; it must be a choice"),
        ({"path": []}, r"path is \[\]; it must be a choice"),
    ],
    ids=str,
)
def test_a_value_beyond_its_knob_is_refused(config: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        knobs.check(config)


EM = {"name": "em", "diffusion": {"name": "constant", "sigma": 0.7}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sigma": 0.5, "sampler": EM}, "sigma=0.5 and sampler.diffusion.sigma=0.7 set one number and disagree"),
        (
            {"sigma": 0, "sampler": {"name": "pc", "predictor": EM}},
            "sigma=0 and sampler.predictor.diffusion.sigma=0.7 set one number",
        ),
        ({"lr": 0.5, "optimizer": {"name": "adam", "lr": 0.7}}, "lr=0.5 and optimizer.lr=0.7 set one number"),
    ],
    ids=str,
)
def test_two_words_for_one_number_agree(config: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        knobs.check(config)
    knobs.check({"sigma": "7e-1", "sampler": EM, "lr": None, "optimizer": {"name": "adam", "lr": 0.7}})


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_a_short_word_has_the_name_of_the_number_it_sets(group: str, choice: str) -> None:
    """`sigma: ${default:${sigma},0.5}`: one name on the command line and in the class, and the two are held to agree."""
    for key, value in load(group, choice).items():
        if short := re.match(r"\$\{(?:default:\$\{)?(\w+)", str(value)):
            assert short[1] == key and any(f".{place}".endswith(f".{group}.{key}") for place in knobs.SHORT[key])


@pytest.mark.parametrize("sampler", ["em", "pc"])
def test_a_diffusions_number_by_its_old_name_is_read(tmp_path: Path, sampler: str) -> None:
    """`sigma` of a diffusion was `scale` in the config.json of earlier versions, and counted where sigma= said another."""
    today = composed("sample", [f"sampler={sampler}", "sigma=0.7"])
    if sampler == "pc":
        today["sampler"]["predictor"] = dict(EM)
    kept = json.loads(json.dumps(today).replace('"sigma": 0.7}', '"scale": 0.7}'))
    assert "scale" in json.dumps(kept)
    (tmp_path / "config.json").write_text(json.dumps({"format": formats.FORMAT, "verb": "sample", "config": kept}))
    assert folder.read_config(tmp_path, "samples", "sample") == today
    assert folder.claim(tmp_path, "sample", today) is False
    kept["sigma"] = 0.5
    (tmp_path / "config.json").write_text(json.dumps({"format": formats.FORMAT, "verb": "sample", "config": kept}))
    assert folder.read_config(tmp_path, "samples", "sample") == today


def test_a_scale_may_be_above_1() -> None:
    """Muon's rms is the size of a step's entries, not a memory like momentum."""
    knobs.check({"optimizer": {"name": "muon", "rms": 1.5}})


@pytest.mark.parametrize("verb", PARTS)
def test_every_knob_stands_in_one_part_and_is_explained(verb: str) -> None:
    """Each knob in one file but for a verb's own default of one, each with its comment, and each a field of one part."""
    found = [keys_of_file(text) for text in help_text.sources(CONFIGS, verb).values()]
    sets, own = found[:-1], found[-1]
    assert sum(map(len, sets)) == len(set().union(*sets))
    defaults = yaml.safe_load((CONFIGS / f"{verb}.yaml").read_text())["defaults"]
    groups = {key.split("/")[0].split("@")[-1] for entry in defaults if isinstance(entry, dict) for key in entry}
    groups -= {"override hydra"}
    shown = help_text.knobs(CONFIGS, verb)
    assert all(about for _, _, about in shown)
    assert {name for name, _, _ in shown} == own.union(*sets)
    parts = keys_of(PARTS[verb])
    assert sum(map(len, parts.values())) == len(set().union(*parts.values()))
    assert set().union(*parts.values()) == (own.union(*sets) | groups) - {"experiment"}


@pytest.mark.parametrize(
    ("name", "cls", "groups"),
    [
        ("machine", Machine, set()),
        ("outputs", Outputs, set()),
        ("steps", Stepping, {"sampler", "grid"}),
        ("sampling", Sampling, {"dataset", "path", "source"} | {field.name for field in dataclasses.fields(Stepping)}),
    ],
)
def test_a_set_of_knobs_is_a_dataclass(name: str, cls: type, groups: set[str]) -> None:
    keys = keys_of_file((CONFIGS / "knobs" / f"{name}.yaml").read_text())
    assert keys == keys_of([Machine, cls][cls is Machine :])[cls] - groups


def test_every_verb_is_here() -> None:
    """And says what it does in the first line of its config, which --help shows."""
    assert PARTS.keys() == VERBS.keys()
    for verb in VERBS:
        assert (CONFIGS / f"{verb}.yaml").read_text().startswith(f"# diffsde {verb}: "), verb
        assert not help_text.purpose(CONFIGS, verb).startswith("#")


def keys_of_file(text: str) -> set[str]:
    return set(yaml.safe_load(text)) - {"defaults", "hydra"}


def test_what_a_run_may_go_on_with_is_of_the_machine() -> None:
    assert {*folder.MACHINE, "precision", "devices"} == {field.name for field in dataclasses.fields(Machine)}


def test_a_verbs_own_default_keeps_the_words_of_the_set() -> None:
    """train says precision=float32 where the set says null, and what it is stands in the set alone."""
    (train,) = (knob for knob in help_text.knobs(CONFIGS, "train") if knob[0] == "precision")
    (sample,) = (knob for knob in help_text.knobs(CONFIGS, "sample") if knob[0] == "precision")
    assert train[1:] == ("float32", sample[2]) and sample[1] == "null"


@dataclasses.dataclass(frozen=True)
class Sample:
    count: int
    rate: float
    flag: bool = False
    widths: tuple[int, ...] = (1,)
    label: str | None = None


def test_read_takes_what_the_types_say() -> None:
    made = read(Sample, {"count": 1e4, "rate": "1e-3", "widths": [3, 4.0], "label": None})
    assert made == Sample(10_000, 1e-3, False, (3, 4), None)
    assert isinstance(made.count, int) and isinstance(made.widths[1], int)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"count": 1.5}, "count is 1.5; it must be a whole number"),
        ({"count": "many"}, "count is 'many'; it must be a whole number"),
        ({"count": True}, "count is True"),
        ({"count": 10**400}, "count is 1000"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"rate": None}, "rate is None; it must be a number"),
        ({"flag": 1}, "flag is 1; it must be true or false"),
        ({"widths": 3}, "widths is 3; it must be a list"),
        ({"widths": ["a"]}, "widths[0] is 'a'"),
        ({"cuont": 3}, "cuont is not known (did you mean 'count'?)"),
    ],
)
def test_read_refuses_in_one_line(change: dict, says: str) -> None:
    with pytest.raises(UserError) as error:
        read(Sample, {"count": 1, "rate": 1.0} | change, "group")
    assert f"group.{says}" in str(error.value) and "\n" not in str(error.value)


def test_read_wants_every_field_without_a_default() -> None:
    with pytest.raises(UserError, match="rate is missing"):
        read(Sample, {"count": 1})


@dataclasses.dataclass(frozen=True)
class Other:
    sample: Sample
    other: int


def test_parts_take_each_key_once() -> None:
    first, second = read_parts({"count": 1, "rate": 0.5, "other": 2}, Sample, Other)
    assert second == Other(first, 2) and first == Sample(1, 0.5)
    with pytest.raises(UserError, match=r"otehr is not known \(did you mean 'other'\?\)"):
        read_parts({"count": 1, "rate": 0.5, "otehr": 2}, Sample, Other)
    with pytest.raises(AssertionError, match="a key stands in two parts"):
        read_parts({"count": 1, "rate": 0.5}, Sample, dataclasses.make_dataclass("Twice", [("rate", float)]))


def test_a_training_has_a_precision_of_its_own() -> None:
    with pytest.raises(UserError, match="precision is null"):
        train_choices(composed("train", ["precision=null"]))


def test_words_that_run_folders_have_kept_are_read() -> None:
    kept = {"net": {"name": "dit", "positions": "waves"}, "measurements": 3, "lr": None}
    assert in_words_of_now(kept) == {"net": {"name": "dit", "positions": "sincos"}, "n_measurements": 3, "lr": None}
    assert kept["measurements"] == 3 and in_words_of_now(None) is None
