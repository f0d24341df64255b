"""docs/mistakes.md: what the page says that the program says, it says; and names of elsewhere lead to keys that are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from diffsde.cli import help_text, other_names
from diffsde.cli.job import VERBS, config_folder
from diffsde.cli.main import main

SPEC = importlib.util.spec_from_file_location("mistakes", Path(__file__).parent.parent / "scripts" / "mistakes.py")
assert SPEC is not None and SPEC.loader is not None
mistakes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(mistakes)


def test_the_page_says_what_the_program_says(here: Path) -> None:
    """Each row is run: one line, status 2, nothing left behind; at least the 40 that were asked for."""
    assert sum(map(len, mistakes.MISTAKES.values())) >= 40
    assert mistakes.page() == mistakes.PAGE.read_text()


def test_keys_of_elsewhere_are_of_keys_that_are_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = {key for verb in VERBS for key in help_text.known_keys(config_folder(), verb)} | {"hydra.run.dir"}
    assert {*other_names.KEYS} <= known
    for names in (*map(str.split, other_names.KEYS.values()), other_names.EXPLAINED):
        for name in names:
            assert other_names.plain(name) == name
    assert main(["train", "learning-rate=0.1"]) == 2
    assert re.search(r"learning-rate is not known; it is called lr= here; see", capsys.readouterr().err)
