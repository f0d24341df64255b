"""README.md and docs/: the Python example runs, every command and knob is one that diffsde knows, every link leads somewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from diffsde import knobs, plugins
from diffsde.cli import help_text, study_words
from diffsde.cli.completion import OPTIONS
from diffsde.cli.job import VERBS, config_folder
from diffsde.cli.main import composed, main
from diffsde.cli.plain import PLAIN
from diffsde.cli.study_plan import planned
from diffsde.runs import records

ROOT = Path(__file__).parent.parent
PAGES = {
    str(page.relative_to(ROOT)): page.read_text()
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
TEXT = "\n".join(PAGES.values())
CODE = re.compile(r"```\w*\n.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
INLINE = [code.strip("`") for code in CODE.findall(TEXT) if not code.startswith("```")]
PLUGINS = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGES["docs/plugins.md"], re.DOTALL)
LINES = [line for code in CODE.findall(TEXT) if code.startswith("```") for line in code.splitlines()]
NAMES_A_RUN = re.compile(r"^(run|guide|init|samples)=(?!oracle|latest|glob|null|\[).*$")
COMMANDS = sorted({text.split("  #")[0].strip() for text in [*INLINE, *LINES] if text.startswith("diffsde ")})


def jobs(words: list[str]) -> list[list[str]]:
    """The words of jobs of a sweep in which every choice of a group occurs, and of numbers the first and the last."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import IntervalSweep

    choices = []
    for word in words:
        override = OverridesParser.create().parse_override(re.sub(r"glob\(.*\)", "FOLDER", word))
        if isinstance(value := override.value(), IntervalSweep):
            choices.append([f"{override.key_or_group}={end}" for end in (value.start, value.end)])
        elif override.is_sweep_override():
            each = [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]
            choices.append(each if (config_folder() / override.key_or_group).is_dir() else [each[0], each[-1]])
        else:
            choices.append([str(override.input_line)])
    return [[each[min(i, len(each) - 1)] for each in choices] for i in range(max(map(len, choices), default=1))]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str, here: Path) -> None:
    """Each composes, with every number and word in its range, or shows help; none is run."""
    _, verb, *words = shlex.split(command)
    for name, text in PLUGINS:
        (here / name).write_text(text)
    if "hydra/sweeper=optuna" in words and not importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper"):
        words = [word for word in words if not word.startswith(("hydra/sweeper", "hydra.sweeper"))]
    if "--help" in words or "--cfg" in words:
        assert main([verb, *words]) == 0
        return
    if verb in map(str.strip, OPTIONS):
        return
    if verb == "study" and words:
        asked = study_words.asked(words)
        if not any(word.startswith("experiment=") for word in words):  # those are planned by tests/test_published.py
            planned(asked)
        return
    if verb in PLAIN:
        check_plain(verb, words)
        return
    assert verb in VERBS
    for name in ("FOLDER", "FLOW", "SCORE"):
        (here / name).mkdir()
    words = [NAMES_A_RUN.sub(r"\1=FOLDER", word) for word in words]
    for job in jobs([word for word in words if word != "-m"]) if "-m" in words else [words]:
        knobs.check(composed(verb, job))


def check_plain(verb: str, words: list[str]) -> None:
    """Its options and knobs are known, and the keys of its filters are of some verb's config, or of what a record has."""
    known = {key for each in VERBS for key in help_text.known_keys(config_folder(), each)} | {*records.ABOUT}
    for word in words:
        key, equals, _ = word.partition("=")
        assert not word.startswith("-") or key in PLAIN[verb].options, word
        if equals and key not in PLAIN[verb].knobs and not word.startswith("-"):
            assert PLAIN[verb].selects and key.removeprefix("run.") in known, word


def known_keys() -> set[str]:
    """What may stand before = on a command line: knobs of verbs, groups, and the numbers of their choices."""
    folder = config_folder()
    files = [*(folder / f"{verb}.yaml" for verb in VERBS), *(folder / "knobs").glob("*.yaml")]
    known = {key for file in files for key in yaml.safe_load(file.read_text())}
    known |= {key for about in PLAIN.values() for key in about.knobs}
    for group in filter(Path.is_dir, folder.iterdir()):
        known.add(group.name)
        for choice in group.glob("*.yaml"):
            known |= {f"{group.name}.{key}" for key in yaml.safe_load(choice.read_text())}
    for key, group in plugins.GROUP_OF.items():
        known |= {key} | {
            known_key.replace(f"{group}.", f"{key}.") for known_key in known if known_key.startswith(f"{group}.")
        }
    of_plain_verbs = {key for about in PLAIN.values() for key in about.knobs}
    return known | of_plain_verbs | {*records.ABOUT} | {f"run.{key}" for key in known}


def test_knobs_named_in_the_text_exist() -> None:
    named = {key for code in INLINE for key in re.findall(r"(?<![\w.$/-])([a-z_]+(?:\.[a-z_]+)?)=(?!=)", code)}
    assert len(named) > 60
    assert (
        named - known_keys() - {"install", "plugins", "folder", "verbose", "dataset.drawn_from"} == set()
    )  # of -sc; of no config; of Python; a group inside a choice


def test_the_table_of_choices_is_the_configs() -> None:
    """Every choice of every group stands in the README's table, and nothing that is none."""
    table: dict[str, set[str]] = {}
    for group, choices in re.findall(r"^\| `(\w+)=`[^|]*\|([^|]*)\|", PAGES["README.md"], re.MULTILINE):
        table.setdefault(group, set()).update(re.findall(r"`([^`]+)`", choices))
    folders = [
        path
        for path in config_folder().iterdir()
        if path.is_dir() and path.name not in ("hydra", "experiment", "knobs")
    ]
    there = {folder.name: {file.stem for file in folder.glob("*.yaml")} for folder in folders}
    there["experiment"] = {file.stem for file in (config_folder() / "experiment").glob("*/*.yaml")}
    assert table == there


BLOCKS = re.findall(r"```python( slow)?\n(.*?)```", PAGES["docs/python.md"], re.DOTALL)


def test_the_python_page_runs(here: Path) -> None:
    """Its blocks that are not slow, one after another; what they say of shapes and numbers holds."""
    names: dict[str, Any] = {}
    exec(compile("".join(block for slow, block in BLOCKS if not slow), "docs/python.md", "exec"), names)
    assert names["drawn"].x.shape == (1000, 2) and names["drawn"].trajectory.x.shape == (6, 1000, 2)
    found = names["drawn"].figures["within_mode_std"]
    assert abs(found.value - 1) < 5 * found.error and list(here.iterdir()) == []


@pytest.mark.slow
def test_the_python_page_runs_whole(here: Path) -> None:
    names: dict[str, Any] = {}
    exec(compile("".join(block for _, block in BLOCKS), "docs/python.md", "exec"), names)
    assert names["run"].losses[-1] < names["run"].losses[0] and names["found"].figures["w2"].value < 1
    assert list(here.iterdir()) == []


def test_the_python_example_runs() -> None:
    """As it is written: the exact field's samples have the exact within-mode std, 1, by the ODE and by both SDEs."""
    [example] = re.findall(r"```python\n(.*?)```", PAGES["README.md"], re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(example, "README.md", "exec"), {})
    sigma, std = np.loadtxt(printed.getvalue().splitlines(), unpack=True)
    np.testing.assert_array_equal(sigma, [0, 0.5, 1])
    # 5000 samples in the plane: 0.007 from chance, and the first-order solver's own error in 200 steps
    np.testing.assert_allclose(std, 1, atol=0.03)


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings of a page."""
    return {re.sub(r"[^\w -]", "", title).replace(" ", "-").lower() for title in re.findall(r"^#+ (.*)", text, re.M)}


def test_links_lead_somewhere() -> None:
    prose = {page: CODE.sub("", text) for page, text in PAGES.items()}
    links = [(page, *link.partition("#")[::2]) for page in prose for link in re.findall(r"\]\(([^)]+)\)", prose[page])]
    assert len(links) > 40
    for page, file, anchor in links:
        if file.startswith("https://"):
            continue
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), f"{page}: {file}"
        assert not anchor or anchor in anchors(target.read_text()), f"{page}: {file}#{anchor}"
    for folder in ("docs", "docs/course"):
        pictures = {target.name for target in (ROOT / folder / "pictures").iterdir()}
        pages = "".join(
            text for page, text in PAGES.items() if (folder == "docs/course") == page.startswith("docs/course/")
        )
        assert pictures == set(re.findall(r"pictures/([\w.]+)\)", pages))


def test_scripts_named_in_the_text_exist() -> None:
    named = set(re.findall(r"scripts/[\w.]+\w", TEXT))
    assert len(named) > 10
    assert {script for script in named if not (ROOT / script).is_file()} == set()
