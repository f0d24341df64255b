"""What must hold of the JSON files of a run folder, which may be anyone's: the type of each entry that a command reads."""

from __future__ import annotations

import json
from typing import Any

# A shape is {type of Python: what must hold of a value of that type}: None where nothing more must; of a text its letters at most; of a list the shape of every
# item; of a dict {key: shape} of those of its keys that are there. Of key! there must be one, and OTHERS has that of other keys.
Shape = dict[type, Any]
OTHERS = ...
LARGEST = 2**80  # of a whole number: float() fails of one of 400 digits


LONGEST = 10_000  # letters of a value of a config: pictures and tables show it


def shape(*alternatives: Any) -> Shape:
    """The shape of a value that is one of these: a type (float: any number), None, [the shape of an item], {key: shape}."""
    found: Shape = {}
    for each in alternatives:
        if isinstance(each, list):
            found[list] = each[0]
        elif isinstance(each, dict):
            found[dict] = each
        elif each is float:
            found |= {int: None, float: None}
        else:
            found[type(None) if each is None else each] = None
    return found


NUMBER, WORD, WORDS, BOOL = shape(float), shape(str), shape([shape(str)]), shape(bool)
MAYBE_NUMBER = shape(float, None)
VALUE: Shape = {}  # of a config: a scalar, a list of values, a choice or another group of values
CHOICE = shape({"name": WORD, OTHERS: VALUE})
CHOSEN = shape({"name!": WORD, OTHERS: VALUE}, None)
VALUE |= shape(None, bool, float, [VALUE]) | {str: LONGEST} | CHOICE
GROUPS = (  # of which a config has a choice, where it has that key at all
    *("dataset", "source", "path", "coupling", "objective", "time", "net", "optimizer", "logger"),
    *("sampler", "diffusion", "grid", "measurement", "posterior"),
)
KINDS = (
    "value",
    "exact",
    "true",
    "real",
    "measurement",
    "truth",
    "floor",
    "field",
)  # metrics.figures.KINDS, without jax
FIGURE = {f"{kind}{end}": MAYBE_NUMBER for kind in KINDS for end in ("", "_error")} | dict.fromkeys(
    ("error", "points"), MAYBE_NUMBER
)
CONFIG = shape(
    {
        "format": NUMBER,
        "verb": WORD,
        "backend": WORD,
        "config": shape(
            {
                "name": shape(str, float, None),
                "tag": shape(None, str, float, [shape(str, float)]),
                **dict.fromkeys(GROUPS, CHOSEN),
                "process": CHOSEN | NUMBER,  # once a number
                OTHERS: VALUE,
            }
        ),
        "directory": WORD,
        "provenance": shape(
            {
                "id": WORD,
                "date": WORD,
                "command": WORD,
                "words": WORDS,
                "used": shape({OTHERS: WORD | WORDS}),
                "versions": shape({OTHERS: shape(str, None)}),
                "git": shape({OTHERS: shape(None, {"revision": WORD, "changed": shape(bool, None)})}),
                "machine": shape({"host": WORD, "devices": WORDS}),
            }
        ),
        "plugins": shape({OTHERS: WORDS}),
        "scaling": shape({"mean": shape([NUMBER]), "std": shape([NUMBER])}),
        "net": CHOICE | shape(None),
        "made_of": shape({"times": shape([NUMBER]), "teacher": WORD, "distilled_from": WORD}),
    }
)
ANY_FORMAT = shape({"format": NUMBER})  # of a config.json
COSTS = ("steps", "nfe", "nfe_max", "seconds", "cpu_seconds", "seconds_compile", "parameters", "n", "members")
SUMMARY = shape(
    {
        "metrics": shape({OTHERS: shape(FIGURE)}),
        "metric": shape({"name": WORD, **FIGURE}),
        **dict.fromkeys(("loss", "validation_loss", "kl"), shape(FIGURE)),
        "units": shape({OTHERS: WORD}),
        "directions": shape({OTHERS: WORD}),
        "likelihood": shape({"change": MAYBE_NUMBER}),
        "found": shape({"sampler!": CHOICE, "grid!": CHOICE, "steps!": NUMBER, "last!": WORD}),
        "grid": WORD | CHOICE,
        "field": WORD,
        "last": WORD,
        "start": shape(str, float, None),
        **dict.fromkeys(COSTS, MAYBE_NUMBER),
        "nfe": MAYBE_NUMBER | shape({OTHERS: MAYBE_NUMBER}),  # of a likelihood's training: the first, mean and last
    }
)
ERROR = shape({"error": WORD, "overrides": WORDS})
SWEEP = shape({"verb": WORD, "words": WORDS})
STUDY = shape(
    {
        "format": NUMBER,
        "asked": shape({OTHERS: VALUE}),
        "stages": shape([shape({"name": WORD, "verb": WORD, "words": WORDS})]),
        "runs": shape({OTHERS: WORDS}),
        "spent": shape({OTHERS: shape({OTHERS: NUMBER})}),
        "finished": BOOL,
    }
)
SPOKEN: dict[type, str] = {
    str: "text",
    float: "a number",
    int: "a number",
    bool: "true or false",
    type(None): "null",
    dict: "an object",
    list: "a list",
}


def fault(found: Any, wanted: Shape) -> str | None:
    """What is wrong with a value of JSON, where it has not the shape; None where it has."""
    if (wrong := _fault(found, wanted)) is None:
        return None
    place, why = wrong
    named = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in reversed(place)).removeprefix(".")
    return f"'{named[:80]}' {why}" if named else f"it {why}"


def _fault(found: Any, wanted: Shape) -> tuple[list[Any], str] | None:
    """(the keys to the part that is wrong, the last first; why)."""
    kind = type(found)
    if kind not in wanted:
        said = SPOKEN[kind] if kind in (dict, list) else json.dumps(found)[:40]
        return [], f"is {said}, not {' or '.join(dict.fromkeys(SPOKEN[each] for each in wanted))}"
    inner = wanted[kind]
    if inner is None:
        return None if kind is not int or abs(found) < LARGEST else ([], "has more digits than a number here may have")
    if kind is str:
        return None if len(found) <= inner else ([], f"has {len(found):,} letters, and a value has {inner:,} at most")
    if kind is list:
        for i, item in enumerate(found):
            if (wrong := _fault(item, inner)) is not None:
                return [*wrong[0], i], wrong[1]
        return None
    others = inner.get(OTHERS)
    for key, item in found.items():
        if len(key) > LONGEST:
            return [], f"has a key of {len(key):,} letters"
        shape_of = inner.get(key, others)
        if shape_of is not None and (wrong := _fault(item, shape_of)) is not None:
            return [*wrong[0], key], wrong[1]
    for key, shape_of in inner.items():
        if key is not OTHERS and key[-1] == "!":
            if key[:-1] not in found:
                return [], f"has no '{key[:-1]}'"
            if (wrong := _fault(found[key[:-1]], shape_of)) is not None:
                return [*wrong[0], key[:-1]], wrong[1]
    return None
