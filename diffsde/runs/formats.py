"""Versions of a run folder's layout: which can be read, and the translation of the older ones to today's."""

from __future__ import annotations

from typing import Any

from diffsde.runs import shapes
from diffsde.runs.old_words import in_words_of_now

# Version of the run folder's layout, in config.json. Of 1, checkpoints have no checksum and one parameter average; 1 and 2 know
# no labels; since 4, config.json holds the net that net=auto chose, and objective.weight=auto has today's meaning.
FORMAT = 4
SINCE_RESUMABLE = 4
WITHOUT_CHECKSUMS = 1
# What was done before a knob was there, of the knobs that have no default in Python.
_MACHINE = dict.fromkeys(("precision", "devices", "coordinator", "processes", "rank", "threads"))
BEFORE: dict[str, dict[str, Any]] = {
    "train": {
        **_MACHINE,
        **dict.fromkeys(("accumulate", "label_dropout", "checkpoint_every", "run", "init", "name", "tag")),
        **{"precision": "float32", "metric": "loss", "keep": 2, "best": False, "shard": False, "resume": True},
    },
    "sample": {
        **_MACHINE,
        **dict.fromkeys(
            ("ema", "labels", "guidance", "guide", "truth", "n_measurements", "name", "tag", "coordinates")
        ),
        **{
            "checkpoint": "last",
            "guide_checkpoint": "last",
            "guidance_interval": [0, 1],
            "coupled": False,
            "resume": True,
        },
    },
}


def is_readable(content: Any) -> bool:
    """Whether the content of a config.json is of a format that this version reads."""
    return 1 <= _format(content) <= FORMAT


def too_new(content: Any) -> str:
    """Why a config.json of a newer format is not read; "" of any other content."""
    if (found := _format(content)) <= FORMAT:
        return ""
    return (
        f"it was written by a newer diffsde (format {found}, and this one reads 1 to {FORMAT}); install that version or a"
        " later one"
    )


def _format(content: Any) -> int:
    """The format of the content of a config.json; 0 where it has none."""
    found = content.get("format") if isinstance(content, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def fault(content: Any) -> str | None:
    """What is wrong with the content of a config.json; nothing of a newer format, whose shape is not known."""
    return shapes.fault(content, shapes.ANY_FORMAT) or (
        None if too_new(content) else shapes.fault(content, shapes.CONFIG)
    )


def has_checksums(content: Any) -> bool:
    """Whether the checkpoints beside a config.json have checksums."""
    return _format(content) != WITHOUT_CHECKSUMS


def weighted_otherwise(content: Any) -> bool:
    """Whether a config.json is of a training run whose losses had other weights than its words give today."""
    return is_readable(content) and content.get("verb") == "train" and content["format"] < SINCE_RESUMABLE


def not_resumable(content: Any) -> str:
    """Why training cannot go on in the folder of a config.json as it was written; "" where it can."""
    if not weighted_otherwise(content):
        return ""
    return (
        f"it was begun by a diffsde whose losses were weighted otherwise (format {content['format']}); it can be sampled and evaluated, and"
        " another run may begin with its parameters: train init="
    )


def in_format_of_now(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a readable config.json, translated to today's format and words with the same meaning."""
    config = content.get("config")
    if not isinstance(config, dict):
        return content
    now = content | {"config": BEFORE.get(str(content.get("verb")), {}) | in_words_of_now(config)}
    if content.get("verb") == "train":
        now["net"] = in_words_of_now({"net": content.get("net", config.get("net"))})["net"]
    return now
