"""The space of diffsde's command lines, for fuzz_configs.py: choices, knobs and values drawn at random, and what is covered of it.

Read from configs/ and knobs.py alone, so that what is added there is tried without a change here. A command is drawn from its
own number and the seed: the same number is the same command, whatever ran before.
"""

from __future__ import annotations

import math
import random
from typing import Any

from diffsde import knobs
from diffsde.cli import choice_texts, help_text
from diffsde.cli.job import config_folder

CONFIGS = config_folder()
SHARES = {"train": 24, "sample": 24, "evaluate": 12, "explain": 18, "simulate": 14, "show": 8}
EXTREMES = (
    "0 -1 1 1e-300 1e300 -1e300 1e-30 1e30 1e308 1e309 nan inf -inf 0.5 2147483647 2147483648 4294967296 "
    "9223372036854775808 10000000000000000000000000000000000000000 -0.0 1e-8 1e9 0.999999999"
).split()
JUNK = (
    "|null|true|false|abc|None|[]|[1]|[1,2]|[0,-1,nan]|[[1,2],[3]]|[abc]|{a:1}|{}|-|.|1,2|1 2|0x10|1_000|1e|'1'|"
    '"x"|größe|a=b|?|*|../x|/|[null]|[[]]'
).split("|")
FILES = (
    "points.npy line.npy huge.npy tiny.npy constant.npy one_constant.npy far.npy one.npy two.npy bad.npy "
    "widest.npy labelled.csv images.npy whole.npy five.npy"
).split()
EXPRESSIONS = "t t**2 sqrt(t) 1-t sin(pi*t/2) (1-t)**2 1/t exp(800*t) 0 log(t) 1e300*t t-0.5 x".split()
DRIFTS = "-x 0 x x**3 1e300*x -1e30*x 1/x sqrt(-x**2-1) exp(x) t [x2,-x1] x1 log(t)".split()
RUNS = "plane labelled two_laws bridge flow_map classifier continuous realnvp images snapshots line vp score".split()
# Sizes at which a command takes a second, not a minute; each is left away sometimes.
SMALL: dict[str, dict[str, Any]] = {
    "train": {"steps": "12345", "batch_size": "1248", "net.widths": ("[8]", "[8,8]"), "posterior_points": ("0", "4")},
    "sample": {"n": "1348", "steps": "1235"},
    "evaluate": {
        "n": ("16", "40"),
        "steps": "123",
        "n_test": ("4", "8"),
        "solver_steps": "12",
        "transport_points": ("8", "16"),
    },
    "simulate": {"n": "1348", "steps": "1235"},
    "explain": {},
    "show": {"n": "1248", "steps": "123", "resolution": ("8", "9")},
}
SIZES = {
    "fixed": {"size": "64"},
    "drifting": {"size": "40"},
    "run": {"pairs": "40"},
    "iterated": {"pairs": "40", "rounds": "2"},
}
WHAT_TEXT = dict.fromkeys("alpha_t beta_t variance_t sigma_t gamma_t".split(), EXPRESSIONS)
WHAT_TEXT |= {"process.drift": DRIFTS, "process.diffusion": ["1.0", *DRIFTS]}
PAIRS = (("t", "1-t"), ("t**2", "(1-t)*(1+t)"), ("sin(pi*t/2)", "cos(pi*t/2)"), ("sqrt(t)", "1-t"), ("t", "sqrt(1-t)"))
MIXTURES = ("gmm", "gaussian", "8gaussians", "mixture")  # whose exact field is known between two laws
BETWEEN = ("bridge", "icfm", "interpolant")  # paths that need a source
NOT_SHOWN = {("sampler", what) for what in knobs.WHAT if what != "marginals"} | {
    ("diffusion", what) for what in knobs.WHAT if what not in ("marginals", "conditional", "path")
}
SLOW = "unet dit mixer likelihood best optimised run iterated digits adaptive".split()
HEAVY = ("mnist", "fashion_mnist")  # which need files of the network
NEVER = "coordinator processes rank cache_dir cache plugins".split()  # of several processes, and where things are kept


def command(seed: int, number: int) -> list[str]:
    """The words of one command."""
    draw = random.Random(f"{seed}-{number}")
    verb = draw.choices([*SHARES], [*SHARES.values()])[0]
    words: dict[str, str] = {}
    taken = choices_drawn(draw, verb, words)
    sizes_drawn(draw, verb, taken, words)
    kind = draw.choices(("within", "extreme", "junk"), (60, 28, 12))[0]
    known = {key: choice for key, choice in keys(verb, taken).items() if key not in NEVER}
    for key in draw.sample(
        [*known], min(len(known), draw.choice((0, 1, 1, 2, 3)) if kind == "within" else draw.choice((1, 1, 2)))
    ):
        words[key] = value(draw, key, known[key], kind)
    if verb in ("train", "sample", "simulate") and "pictures" not in words and draw.random() < 0.85:
        words["pictures"] = "none"
    return [verb, *(f"{key}={said}" for key, said in words.items())]


def choices_drawn(draw: random.Random, verb: str, words: dict[str, str]) -> dict[str, str]:
    """A choice for some of the groups, into the words, and for all those of the config: {group: choice}."""
    taken = {
        group: default for group, default in help_text.groups(CONFIGS, verb).items() if default not in ("", "null")
    }
    share = draw.choice((0.15, 0.3, 0.5))
    of_run = "run" in keys(verb, {}) and verb != "train" and draw.random() < 0.65
    if of_run:
        words["run"] = draw.choice(RUNS)
    elif "run" in keys(verb, {}) and verb != "train":
        words["run"] = "oracle"
        words["dataset"] = taken["dataset"] = draw.choice(names(verb, "dataset"))
        words["path"] = taken["path"] = draw.choice(names(verb, "path"))
    if verb == "show":
        words["what"] = draw.choice(knobs.WHAT)
    for group in help_text.groups(CONFIGS, verb):
        common = {"logger": 0.06, "experiment": 0.05, "source": 0.2, "measurement": 0.15, "posterior": 0.1}.get(
            group, share
        )
        if verb == "explain" and group == "net" and draw.random() < 0.9:
            continue
        if verb == "show" and (group, words["what"]) in NOT_SHOWN and draw.random() < 0.9:
            continue
        if (of_run and group in ("dataset", "path", "source") and draw.random() < 0.97) or draw.random() > common:
            continue
        words[group] = taken[group] = draw.choice(names(verb, group))
    if "path" in help_text.groups(CONFIGS, verb) and not of_run and draw.random() < 0.85:
        mend_ends(draw, verb, taken, words)
    if "diffusion" in words and "sampler" in taken and verb != "show" and draw.random() < 0.93:
        words["sampler"] = taken["sampler"] = draw.choice(("em", "stochastic_heun", "exponential", "langevin"))
    if verb == "simulate" and "dataset" in words and draw.random() < 0.9:
        words["process"] = taken["process"] = "langevin"
    if verb == "simulate" and "sampler" in words and draw.random() < 0.6:
        words["sampler"] = taken["sampler"] = draw.choice(
            ("euler", "midpoint", "heun", "rk4", "ab2", "ab3", "em", "stochastic_heun")
        )
    if verb == "train" and draw.random() < 0.9:
        suit(draw, taken, words)
    files_drawn(draw, verb, taken, words)
    return taken


def suit(draw: random.Random, taken: dict[str, str], words: dict[str, str]) -> None:
    """A network and an objective that suit the data, for a training."""
    images = taken.get("dataset") in ("digits", "image_folder")
    if not images and taken.get("net") in ("dit", "unet", "mixer"):
        words["dataset"] = taken["dataset"] = draw.choice(("digits", "image_folder"))
    if taken.get("net") in ("realnvp", "spline"):
        words["objective"] = taken["objective"] = "likelihood"
        for group in ("path", "time", "coupling", "source"):
            words.pop(group, None)
            taken.pop(group, None)


def mend_ends(draw: random.Random, verb: str, taken: dict[str, str], words: dict[str, str]) -> None:
    """A source where the path needs one, none where it takes none, and mixtures where the exact field is to be known."""
    source = words.pop("source", None)
    taken.pop("source", None)
    if taken.get("path") not in BETWEEN and (
        source is None or taken.get("path") in ("ve", "vp", "subvp", "edm", "cosine")
    ):
        return
    exact = verb != "train"
    words["source"] = taken["source"] = draw.choice(MIXTURES) if exact else source or draw.choice(names(verb, "source"))
    if exact:
        words["dataset"] = taken["dataset"] = draw.choice(MIXTURES)


def files_drawn(draw: random.Random, verb: str, taken: dict[str, str], words: dict[str, str]) -> None:
    """What choices of files, and of several numbers that need one another, are given."""
    for end in ("dataset", "source"):
        if taken.get(end) == "array":
            words[f"{end}.file"] = draw.choice(FILES)
        if taken.get(end) == "snapshots":
            words[f"{end}.file"] = draw.choice(("snapshots.npz", "snapshots.csv", "far_snapshots.npz"))
        if taken.get(end) == "image_folder":
            words[f"{end}.folder"] = "images"
    if taken.get("coupling") == "pairs" and draw.random() < 0.8:
        words["coupling.file"] = draw.choice(("pairs.npz", "huge_pairs.npz"))
    if taken.get("coupling") == "run":
        words["coupling.run"] = draw.choice(RUNS)
    if taken.get("path") == "expression":
        wild = (draw.choice(EXPRESSIONS), draw.choice(EXPRESSIONS))
        words["path.alpha_t"], words["path.beta_t"] = draw.choice((*PAIRS, wild, wild))
    if taken.get("process") == "expression":
        words["process.drift"] = draw.choice(DRIFTS)
    if taken.get("diffusion") == "expression" and taken.get("sampler") in (
        "em",
        "stochastic_heun",
        "exponential",
        "langevin",
    ):
        words["sampler.diffusion.sigma_t"] = draw.choice(EXPRESSIONS)


def sizes_drawn(draw: random.Random, verb: str, taken: dict[str, str], words: dict[str, str]) -> None:
    """Small sizes of what a command computes."""
    discrete = words.get("run") == "realnvp" or taken.get("net") in ("realnvp", "spline")
    useless = (
        {"steps", "solver_steps"}
        if discrete and verb != "train"
        else {"posterior_points"}
        if verb == "train"
        else set()
    )
    if verb == "show":
        useless = {"steps", "n", "resolution"} - {
            "marginals": {"steps", "n"},
            "field": {"resolution"},
            "density": {"resolution"},
            "conditional": {"n"},
            "data": {"n"},
        }.get(words.get("what", ""), set())
    for key, small in SMALL[verb].items():
        if key == "net.widths" and taken.get("net") not in ("auto", "mlp"):
            continue
        if draw.random() < (0.1 if key in useless else 0.97):
            words[key] = draw.choice(small)
    if verb == "train":
        words.setdefault("steps", "5")
    for group, choice in taken.items():
        words |= {f"{group}.{key}": said for key, said in SIZES.get(choice, {}).items()}
    if taken.get("net") in ("mixer", "dit", "unet"):
        words |= {
            "dit": {"net.width": "8", "net.depth": "1", "net.heads": "1"},
            "mixer": {"net.width": "8", "net.depth": "1"},
        }.get(taken["net"], {"net.channels": "[8,8]", "net.depth": "1", "net.heads": "1"})
    if verb == "evaluate" and draw.random() < 0.97:
        from_metrics = (
            "mixture",
            "modes",
            "w2",
            "w1",
            "sliced_w2",
            "sinkhorn",
            "energy_distance",
            "mmd",
            "likelihood",
            "straightness",
        )
        more = ("c2st", "prdc", "budget", "bridge", "flow_map", "snapshots", "labels", "neighbours")
        words["metrics"] = "[" + ",".join(draw.sample((*from_metrics, *more), draw.choice((1, 1, 2, 3)))) + "]"


def names(verb: str, group: str) -> list[str]:
    """The choices of a group of a verb."""
    folder = f"experiment/{verb}" if group == "experiment" else group
    return [name for name in help_text.choices(CONFIGS, folder, verb) if name not in HEAVY]


def keys(verb: str, taken: dict[str, str]) -> dict[str, str]:
    """Every number, word and switch of a verb with these choices, and the choice that it is of: {key: choice or ''}."""
    found = {name: "" for name, _, _ in help_text.knobs(CONFIGS, verb)}
    for group, choice in taken.items():
        if group in ("experiment", "diffusion") or choice == choice_texts.NORMAL:
            continue
        prefix = "process.dataset" if verb == "simulate" and group == "dataset" else group
        for key, _, _ in help_text.choice_numbers(CONFIGS, group, choice, prefix):
            found[key] = choice
    return found


def value(draw: random.Random, key: str, choice: str, kind: str) -> str:
    """A value for a key: within its range, or extreme, or anything at all."""
    group, _, name = key.rpartition(".")
    texts = WHAT_TEXT.get(name) or WHAT_TEXT.get(key)
    knob = knobs.knob(name, group.rpartition(".")[2], choice)
    if kind == "junk" or (kind == "extreme" and not isinstance(knob, knobs.Number | knobs.NumberOr)):
        return draw.choice(JUNK) if draw.random() < 0.7 else draw.choice(EXTREMES)
    if kind == "extreme":
        return draw.choice(EXTREMES)
    if texts:
        return draw.choice(texts)
    if isinstance(knob, knobs.Word):
        return draw.choice(knob.choices)
    if isinstance(knob, knobs.Switch):
        return draw.choice(("true", "false"))
    if isinstance(knob, knobs.Number):
        return within(draw, knob)
    return draw.choice(("null", "x", "[0,1]", "all", "none", "0.5", "1", "last", "latest"))


def within(draw: random.Random, knob: knobs.Number) -> str:
    """A number of a knob's range, near its ends as often as not."""
    if knob.whole:
        return str(int(max(knob.low, 0)) + draw.choice((0, 0, 1, 1, 2, 3, 6)))
    low, high = max(knob.low, -3.0), min(knob.high, 5.0)
    ends = [low] * knob.closed[0] * math.isfinite(knob.low) + [high] * knob.closed[1] * math.isfinite(knob.high)
    return f"{draw.choice((*ends, *(draw.uniform(low, high) for _ in range(3)))):.4g}"
