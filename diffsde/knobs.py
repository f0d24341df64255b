"""The kind and the range of every number and word of the configs: what can be refused before anything heavy is imported.

`build.read` and the command line hold a value against the same entry of KNOBS, so that a range stands once; what is between
two knobs (start below end) stays with the choice that has both, in its `check`.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from diffsde import plugins
from diffsde.errors import UserError

# Sizes of numbers that are not whole, 0 aside: single precision, in which programs compute, holds their cubes.
SMALLEST, LARGEST = 1e-12, 1e12
LEAST_NORMAL = 2.0**-126  # of single precision; what is smaller counts as 0 there


class Number(NamedTuple):
    """A number, or each of a list of them: from `low` to `high`, the ends themselves included where `closed` says so.

    smallest and largest: of its size, where it is neither whole nor 0.
    """

    whole: bool = False
    low: float = -math.inf
    high: float = math.inf
    closed: tuple[bool, bool] = (True, True)
    smallest: float = SMALLEST
    largest: float = LARGEST

    def refusal(self, value: Any) -> str | None:
        """What a value must be instead; None where it is that."""
        wanted = "a whole number" if self.whole else "a number"
        number = as_number(value)
        if number is None or not math.isfinite(number):
            return f"it must be {wanted}"
        if self.whole and number != int(number):
            return f"it must be {wanted}"
        if not self.holds(number):
            beyond = number > self.high >= LARGE and self.closed[1]
            return f"it must be at most {self.high:,.0f}" if beyond else f"it must be {self.range()}"
        return None if self.whole else self.refusal_of_size(number)

    def holds(self, number: float) -> bool:
        """Whether a number lies in the range."""
        above = self.low <= number if self.closed[0] else self.low < number
        below = number <= self.high if self.closed[1] else number < self.high
        return above and below

    def refusal_of_size(self, number: float) -> str | None:
        """What a number of the range must be instead where single precision would make another of it, or of its cube."""
        if abs(number) > self.largest:
            return f"it must be at most {self.largest:g} in size, whatever the precision"
        if 0 < abs(number) < self.smallest:
            zero = "0, or " * self.holds(0.0)
            return f"it must be {zero}at least {self.smallest:.3g} in size, whatever the precision"
        if not self.holds(single(number)):
            return f"it must be {self.range()} in single precision too, which makes {single(number):g} of it"
        return None

    def range(self) -> str:
        """The range in words."""
        if self.high == math.inf or (self.high >= LARGE and self.closed[1]):
            return f"{self.low:g} or more" if self.closed[0] else "positive" if self.low == 0 else f"above {self.low:g}"
        left, right = "[" if self.closed[0] else "(", "]" if self.closed[1] else ")"
        high = "2^31" if self.high == 2**31 else f"{self.high:.5g}"
        return f"in {left}{self.low:g}, {high}{right}"


class Word(NamedTuple):
    """One of some words."""

    choices: tuple[str, ...]

    def refusal(self, value: Any) -> str | None:
        """What a value must be instead; None where it is that."""
        if isinstance(value, dict) or str(value) in self.choices:
            return None
        return f"choose one of {', '.join(self.choices)}"


class Switch(NamedTuple):
    """true or false."""

    def refusal(self, value: Any) -> str | None:
        """What a value must be instead; None where it is that."""
        return None if isinstance(value, bool) else "it must be true or false"


class Text(NamedTuple):
    """Text of any kind, under a name that is a number elsewhere."""

    def refusal(self, value: Any) -> str | None:
        """None: what the text may be, its dataclass knows."""
        return None


class NumberOr(NamedTuple):
    """A number, or text that is none."""

    number: Number
    text: str

    def refusal(self, value: Any) -> str | None:
        """What a value must be instead; None where it is that."""
        wanted = None if as_number(value) is None else self.number.refusal(value)
        return wanted and f"{wanted}, or {self.text}"


class Label(NamedTuple):
    """What a run is called: text that on a command line cannot be taken for a folder, a glob, a filter or a list."""

    def refusal(self, value: Any) -> str | None:
        """What a value must be instead; None where it is that."""
        text = str(value)
        if text in ("", "latest", "oracle", "all", "none") or text != text.strip() or text.startswith("-"):
            return "it must be a word of its own, not empty, latest, oracle, all or none"
        if len(text) > LONGEST_LABEL or not text.isprintable() or set(text) & set("=,/\\*?[](){}$'\"`~"):
            return f"it must be up to {LONGEST_LABEL} letters, digits and spaces, with none of = , / * ? [ ] ( ) {{ }} $ or quotes"
        return None


class Choice(NamedTuple):
    """A choice of a group, inside another choice or not: a config of its own."""

    def refusal(self, value: Any) -> str | None:
        """What a value must be instead; None where it is that."""
        return None if isinstance(value, dict) else "it must be a choice: its name, and its numbers"


LONGEST_LABEL = 60
LARGE = 1024  # bounds from here on are of what fits, and said where they are passed alone
INT32 = 2**31 - 1  # the largest number that programs count with
MOST_TIMES = 1_000_000  # steps of a sampler or a process: of some more float32 no longer tells their times apart
MOST_TIMES_DOUBLE = 100_000_000  # the same of float64, whose times are 0.8 GB
Knob = Number | Word | Switch | Text | NumberOr | Label | Choice

ANY = Number()
COUNT = Number(whole=True, low=1, high=INT32)
NATURAL = Number(whole=True, low=0, high=INT32)
SIZE = Number(whole=True, low=1, high=65_536)  # of a network's layers
TIMES = Number(whole=True, low=1, high=1000)  # that something is done once more
LAYERS = Number(whole=True, low=1, high=256)  # each is compiled by itself
POSITIVE = Number(low=0, closed=(False, True))
NOT_NEGATIVE = Number(low=0)
UNIT = Number(low=0, high=1)
INSIDE = Number(low=0, high=1, closed=(False, False))
MEMORY = Number(low=0, high=1, closed=(True, False))
SWITCH = Switch()
CHOICE = Choice()
FINE = Number(low=0, closed=(False, True), smallest=LEAST_NORMAL)
# Numbers in the units of the user's data, which are those of no computation.
OWN = Number(smallest=1e-30, largest=1e30)
OWN_STD = OWN._replace(low=0)

# The groups of a verb's config, and source=, a dataset too.
GROUPS = (
    *("dataset", "source", "path", "objective", "coupling", "time", "net", "optimizer", "logger", "process", "sampler"),
    *("diffusion", "grid", "measurement", "posterior"),
)

# Knobs that name the folder of a job, and the verb of that job.
RUNS = {
    "run": "train",
    "guide": "train",
    "init": "train",
    "coupling.run": "train",
    "teacher": "train",
    "samples": "sample",
}

# Knobs that may name a file or a folder, by the last part of their keys.
FILES = ("file", "files", "labels", "test", "folder", "data_dir", "cache_dir", "keep", "matrix", "truth")

# What a run may be judged by: its loss, and of the figures in evaluation/table.py these.
RUN_METRICS = (
    *("loss", "cross_entropy_gap", "cross_entropy", "within_mode_std", "mode_weight_kl", "w2"),
    *("frechet", "precision", "recall", "density", "coverage", "nearest_ratio", "copied"),
)

# The pictures of `show`.
WHAT = ("density", "field", "conditional", "path", "data", "noising", "marginals")

# By the knob's name; where one name means several things, by the group's, or the choice's, and its own.
KNOBS: dict[str, Knob] = {
    # what is computed
    **dict.fromkeys(("steps", "batch_size", "accumulate", "log_every", "checkpoint_every", "keep"), COUNT),
    **dict.fromkeys(("n", "n_measurements", "save_every", "n_test"), COUNT),
    "solver_steps": Number(whole=True, low=1, high=MOST_TIMES),
    "seed": Number(whole=True, low=0, high=2**31, closed=(True, False)),
    "lr": FINE._replace(largest=1e30),
    **dict.fromkeys(("ema", "label_dropout"), MEMORY),
    "sigma": NOT_NEGATIVE,
    "guidance": ANY,
    "guidance_interval": UNIT,
    **dict.fromkeys(("tolerance", "atol"), FINE),
    "rtol": FINE._replace(closed=(True, True)),
    # processes
    **dict.fromkeys(("theta", "mu", "x0"), ANY),
    "t_end": POSITIVE,
    "process.drift": Text(),
    "process.diffusion": Text(),
    "direction": Word(("forward", "backward")),
    "last": Word(("auto", "step", "mean", "denoise")),
    "transport_points": Number(whole=True, low=1, high=10_000),
    "metric": Word(RUN_METRICS),
    "solver": Word(("euler", "midpoint", "heun", "rk4", "adaptive")),
    "solver_grid": Word(("uniform", "quadratic", "cosine")),
    "probe": Word(("auto", "exact", "rademacher", "gaussian")),
    **dict.fromkeys(("precondition", "best", "resume", "plots", "coupled"), SWITCH),
    # choices, and those inside them; .path is the top level's own
    **dict.fromkeys(tuple(f".{group}" for group in GROUPS), CHOICE),
    **dict.fromkeys(("sampler.diffusion", "sampler.predictor"), CHOICE),
    **dict.fromkeys(("dataset.drawn_from", "process.dataset"), CHOICE),
    # what it is called; by the empty group's name, since every choice has a name too
    ".name": Label(),
    "tag": Label(),
    # how it is computed
    **dict.fromkeys(("threads", "devices"), Number(whole=True, low=1, high=1024)),
    "processes": Number(whole=True, low=1, high=65_536),
    "rank": Number(whole=True, low=0, high=65_535),
    "precision": Word(("float32", "bfloat16", "float64")),
    **dict.fromkeys(("cache", "shard"), SWITCH),
    # data
    **dict.fromkeys(("components", "arms"), TIMES._replace(high=10_000)),
    "size": COUNT,
    "pairs": COUNT,
    **dict.fromkeys(("rounds", "corrections", "dequantisations"), TIMES),
    "split_seed": Number(whole=True, low=0, high=2**31, closed=(True, False)),
    "judged_by": Word(("test", "validation")),
    "dataset.shift": ANY,
    "radius": NOT_NEGATIVE,
    "dataset.std": POSITIVE,
    "dataset.noise": NOT_NEGATIVE,
    "dataset.scale": POSITIVE,
    "circles.factor": INSIDE,
    "gaussian.mean": ANY,
    **dict.fromkeys(("radial_std", "tangential_std"), POSITIVE),
    "pinwheel.rate": ANY,
    **dict.fromkeys(("array.mean", "snapshots.mean"), OWN),
    **dict.fromkeys(("array.std", "snapshots.std"), OWN_STD),
    **dict.fromkeys(("snapshots.times", "leave_out", "turn", "growth"), ANY),
    "snapshots": Number(whole=True, low=2, high=LARGE),
    **dict.fromkeys(("means", "covariances"), ANY),
    **dict.fromkeys(("stds", "weights"), POSITIVE),
    "test": NumberOr(INSIDE, "a file or a folder"),
    **dict.fromkeys(("flip", "dequantise", "conditional", "stream", "standardise", "equal_counts"), SWITCH),
    # paths, objectives and times
    **dict.fromkeys(("rate_min", "rate_max", "noise_min", "noise_max", "rho", "epsilon"), POSITIVE),
    "offset": NOT_NEGATIVE,
    **dict.fromkeys(("block", "iterations"), COUNT),
    "weight": Word(("unit", "beta2", "balanced", "auto")),
    "diagonal": UNIT,
    "power": NOT_NEGATIVE,
    "kappa": MEMORY,
    "velocity": Word(("data", "own")),
    "normalise": POSITIVE,
    "tangent_warmup": Number(low=0, high=1, closed=(False, True)),
    "split": Word(("midpoint", "uniform")),
    "finest": Number(whole=True, low=2, high=INT32),
    **dict.fromkeys(("ends_only", "in_rounds"), SWITCH),
    "time.mean": ANY,
    "time.std": POSITIVE,
    "stratified": SWITCH,
    "target": Word(("conditional", "marginal")),
    "likelihood.solver": Word(("euler", "midpoint", "heun", "bosh3", "tsit5", "dopri5", "dopri8")),
    "adjoint": Word(("checkpointed", "backsolve")),
    "divergence": Word(("auto", "exact", "rademacher", "gaussian")),
    **dict.fromkeys(("kinetic", "jacobian"), NOT_NEGATIVE),
    # networks
    **dict.fromkeys(("widths", "channels", "heads", "patch", "width", "mix", "expand"), SIZE),
    "depth": LAYERS,
    **dict.fromkeys(("time_frequencies", "space_frequencies"), Number(whole=True, low=0, high=65_536)),
    **dict.fromkeys(("gated_skip", "overlap", "posterior_points"), NATURAL),
    "activation": Word(("silu", "gelu", "relu", "selu", "tanh", "softplus")),
    "layers": LAYERS,
    "scale_bound": POSITIVE,
    "bins": Number(whole=True, low=2, high=256),
    "bound": POSITIVE,
    "positions": Word(("sincos", "learned", "none")),
    # optimizers
    **dict.fromkeys(("warmup", "weight_decay"), NOT_NEGATIVE),
    **dict.fromkeys(("clip", "rms"), POSITIVE),
    "eps": FINE,
    **dict.fromkeys(("b1", "b2", "momentum"), MEMORY),
    "decay": Number(low=0, high=1, closed=(False, True)),
    "schedule": Word(("constant", "cosine", "wsd", "wsd_linear")),
    # samplers, diffusions and grids
    "variable": Word(("auto", "t", "log_rho", "rho")),
    "coefficients": Word(("t", "vary", "bh1", "bh2")),
    "churn": Number(low=0, high=2**0.5 - 1),
    **dict.fromkeys(("s_min", "s_max", "s_noise"), NOT_NEGATIVE),
    **dict.fromkeys(("snr", "step_size"), POSITIVE),
    "freeze": INSIDE,
    "norm": Word(("sample", "dimension")),
    "pair": Word(("bosh3", "tsit5", "dopri5", "dopri8")),
    **dict.fromkeys(("start", "end", "times"), UNIT),
    "shift": POSITIVE,
    **dict.fromkeys(("low", "high"), ANY),
    # pictures of `show`
    "what": Word(WHAT),
    "quantity": Word(("velocity", "score")),
    "of": Word(("exact", "run", "both", "difference")),
    "style": Word(("heat", "contours", "both")),
    "scale": Word(("linear", "log")),
    "format": Word(("png", "svg", "pdf")),
    **dict.fromkeys(("z", "window"), OWN),
    "label": NATURAL,
    "resolution": Number(whole=True, low=8, high=1000),
    # inverse problems
    "measurement.noise": OWN_STD._replace(closed=(False, True)),
    "measurement.keep": Text(),
    "factor": Number(whole=True, low=2, high=INT32),
    "hide": NATURAL,
    "posterior.scale": POSITIVE,
    "begin": INSIDE,
    "iterations": COUNT,
}

# A short word sets the number at these places, of which a config has one, where nothing else is said there.
SHORT = {
    "sigma": ("process.sigma", "sampler.diffusion.sigma", "sampler.predictor.diffusion.sigma", "diffusion.sigma"),
    "theta": ("process.theta",),
    "mu": ("process.mu",),
    "lr": ("optimizer.lr",),
}

# The share of an optimizer's own peak learning rate that a run takes by default with an objective, lr= and optimizer.lr= unsaid:
# the target of these has the derivative of the network itself, and at the full rate it chases what it has just changed.
RATES = {"eulerian": 0.3, "meanflow": 0.3, "consistency": 0.3}


def knob(key: str, group: str = "", choice: str = "") -> Knob | None:
    """The entry of KNOBS for a key of a choice of a group; None where there is none, and for a choice of the user's own, whose
    names mean what its class says.
    """
    if plugins.is_own(group, choice):
        return None
    for name in (f"{choice}.{key}", f"{group}.{key}", key):
        if name in KNOBS:
            return KNOBS[name]
    return None


def check(config: dict[str, Any], where: str = "") -> None:
    """Hold every value of a config, and of the choices in it, against its knob. Raises UserError for the first that is none.

    Nor may two words for one number disagree. where: the key under which the config stands. None is left alone: whether a knob
    may be null, its dataclass knows.
    """
    for key, value in sorted(config.items(), key=lambda item: isinstance(item[1], dict)):  # the user's own words first
        place = f"{where}.{key}" if where else key
        if isinstance(value, dict):
            check(value, place)
        elif (found := knob(key, group_at(where), str(config.get("name", "")))) is not None:
            for said, each in [("", value)] if isinstance(found, Choice) else entries(value):
                if each is not None and (wanted := found.refusal(each)):
                    raise UserError(f"{place}{said} is {each!r}; {wanted}")
    if not where:
        check_short(config)
        steps = as_number(config.get("steps")) if "sampler" in config else None
        most = MOST_TIMES_DOUBLE if (double := config.get("precision") == "float64") else MOST_TIMES
        if steps is not None and steps > most:
            why = (
                ""
                if double
                else f"; of more, single precision tells no times apart: precision=float64 takes {MOST_TIMES_DOUBLE:,}"
            )
            raise UserError(f"steps is {config['steps']!r}; it must be at most {most:,}{why}")


def home_expanded(config: dict[str, Any]) -> dict[str, Any]:
    """The config with the home folder in the place of ~ where a value names a file or a folder: a shell leaves it after a key=."""

    def whole(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return home_expanded(value)
        if isinstance(value, list):
            return [whole(key, each) for each in value]
        return os.path.expanduser(value) if key in (*FILES, *RUNS) and isinstance(value, str) else value

    return {key: whole(str(key), value) for key, value in config.items()}


def group_at(where: str) -> str:
    """The group whose choice stands under a key such as sampler.diffusion, or source."""
    key = where.rpartition(".")[2]
    return plugins.GROUP_OF.get(key, key)


def check_short(config: dict[str, Any]) -> None:
    """Raise UserError for two words that set one number and disagree, and for a short word that a process does not have."""
    if isinstance(process := config.get("process"), dict):
        for short in SHORT:
            if config.get(short) is not None and short not in process:
                own = ", ".join(f"process.{key}" for key in process if key != "name")
                raise UserError(f"{short} is {config[short]}, but process={process.get('name')} has none; it has {own}")
    for short, value, place, inner in disagreements(config):
        raise UserError(f"{short}={value} and {place}={inner} set one number and disagree; say {short}= alone")


def disagreements(config: dict[str, Any]) -> Iterator[tuple[str, Any, str, Any]]:
    """(word, value, other word, its value) for two words of a config that set one number and disagree."""
    for short, places in SHORT.items():
        for place in places:
            value, inner = config.get(short), config
            for word in place.split("."):
                inner = inner.get(word) if isinstance(inner, dict) else None  # type: ignore[assignment]
            if value is not None and inner is not None and numbers_in(value) != numbers_in(inner):
                yield short, value, place, inner


def numbers_in(value: Any) -> list[float | None]:
    """The numbers of a value, or of a list."""
    return [as_number(each) for _, each in entries(value)]


def entries(value: Any) -> Iterator[tuple[str, Any]]:
    """A value, or those of a list, and of lists in it, with their places, [0] and so on."""
    if isinstance(value, list | tuple):
        yield from ((f"[{i}]{place}", inner) for i, each in enumerate(value) for place, inner in entries(each))
    else:
        yield "", value


def texts(value: Any) -> Iterator[str]:
    """The texts in a config, among which are the names of its files and folders."""
    if isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)
    elif isinstance(value, str):
        yield value


def as_number(value: Any) -> float | None:
    """A number, or a word that is one, as a float; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def single(number: float) -> float:
    """A number as single precision holds it."""
    return float(struct.unpack("f", struct.pack("f", number))[0])


def is_number(word: str) -> bool:
    """Whether a word of a file or of the command line is a number."""
    return as_number(word) is not None


def as_words(pictures: str | tuple[str, ...]) -> tuple[str, ...]:
    """The words of `pictures=`, of which one may stand without brackets; none for pictures=none. Raises ValueError for a list
    without any; which names there are depends on the data.
    """
    words = (pictures,) if isinstance(pictures, str) else pictures
    if not words:
        raise ValueError("pictures is empty; name some, e.g. pictures=[film], or say pictures=none")
    if "none" in words and len(set(words)) > 1:
        raise ValueError(f"pictures is [{','.join(words)}]; none stands alone")
    return () if "none" in words else words
