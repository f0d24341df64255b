"""The site: a page for each group with every choice and number, built strictly where mkdocs is installed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from diffsde import build
from diffsde.cli import help_text
from diffsde.cli.job import config_folder

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "scripts" / "docs_hooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("group", build.GROUPS.values())
def test_each_group_has_a_page_with_every_choice(hooks: ModuleType, group: str) -> None:
    page = (ROOT / "docs" / "groups" / f"{group}.md").read_text()
    shown = hooks.on_page_markdown(page)
    assert shown != page and "<!--" not in shown
    for name in help_text.choices(config_folder(), group):
        section = re.split(rf"^## {re.escape(name)}$", shown, flags=re.M)
        assert len(section) == 2, name
        numbers = help_text.choice_numbers(config_folder(), group, name)
        assert all(f"| `{key}` | `{value}` |" in section[1] for key, value, _ in numbers), name
    assert f"groups/{group}.md" in (ROOT / "mkdocs.yml").read_text()


@pytest.mark.slow
def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    """Every link and anchor leads somewhere; a page that no menu leads to is an error."""
    if not importlib.util.find_spec("material"):
        pytest.skip("mkdocs-material is not installed (make docs installs it)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "index.html").exists()
