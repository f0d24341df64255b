"""The config of each choice of a group, as text: the files of configs/, and those made of the user's own classes."""

from __future__ import annotations

from pathlib import Path

from diffsde import plugins
from diffsde.plugins import GROUP_OF

NORMAL = "normal"  # the choice of source= that has no file, since it has no numbers: N(0, I)


def names(configs: Path, group: str) -> list[str]:
    """The names of a group's choices; group: also a key that holds a choice of another group."""
    group = GROUP_OF.get(group, group)
    return sorted({*(path.stem for path in (configs / group).glob("*.yaml")), *plugins.parts(group)})


def text(configs: Path, group: str, choice: str) -> str:
    """The YAML of a choice."""
    group = GROUP_OF.get(group, group)
    if plugins.is_own(group, choice):
        from diffsde.build import yaml_of  # here: jax, which a plugin has imported already

        return yaml_of(group, choice, plugins.parts(group)[choice])
    return (configs / group / f"{choice}.yaml").read_text()


def texts(configs: Path, group: str) -> dict[str, str]:
    """The YAML of every choice of a group, by name."""
    return {name: text(configs, group, name) for name in names(configs, group)}


def offer(configs: Path) -> None:
    """Offer the user's own choices to Hydra, which finds them beside the files of configs/; and source=normal, an empty config.

    A metric is named in a list and is no group of Hydra's: offered as one, it would hide the knob metric= of train.
    """
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(NORMAL, {}, group="dataset")
    for group, word in plugins.words():
        if group != "metric":
            ConfigStore.instance().store(word, plain(text(configs, group, word)), group=group)


def plain(content: str) -> dict[str, object]:
    """The content of a choice's YAML."""
    import yaml

    found: dict[str, object] = yaml.safe_load(content)
    return found
