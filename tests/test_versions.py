"""The versions that diffsde is for, said in several files, are the same in all of them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = {"3.11", "3.12", "3.13"}


def pinned() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def commands(workflow: dict[str, Any]) -> list[str]:
    """Every `run` of a workflow, one for each value of the matrix that it names."""
    found = []
    for job in workflow["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for command in (step["run"] for step in job["steps"] if "run" in step):
            name = (re.findall(r"matrix\.(\w+)", command) or [""])[0]
            values = [*matrix.get(name, []), *(each[name] for each in matrix.get("include", []) if name in each)]
            found += [re.sub(r"\$\{\{.*?\}\}", value, command) for value in values or [""]]
    return found


def test_the_workflow_runs_every_python_and_targets_that_there_are() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    said = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)}
    assert said == PYTHONS == set(workflow["jobs"]["test"]["strategy"]["matrix"]["python"])
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    run = {command.split()[1] for command in commands(workflow)}
    assert run == {"install", "test", "test-lowest", "test-newest", "wheel-test", "docs", "audit", "sbom"}
    assert run <= targets


def test_what_is_tested_lies_in_the_ranges() -> None:
    """Each pin of constraints.txt in the range of pyproject.toml, on every Python one pin."""
    ranges = {each.name.lower(): each for each in map(Requirement, PROJECT["dependencies"])}
    for name, wanted in ranges.items():
        for python in PYTHONS:
            here = [
                pin
                for pin in pinned()
                if pin.name.lower() == name and (pin.marker is None or pin.marker.evaluate({"python_version": python}))
            ]
            assert len(here) == 1, (name, python)
            (version,) = (each.version for each in here[0].specifier)
            assert wanted.specifier.contains(version), (name, version)


def test_the_lowest_versions_are_the_lower_bounds() -> None:
    about = importlib.util.spec_from_file_location("lowest_versions", ROOT / "scripts" / "lowest_versions.py")
    assert about is not None and about.loader is not None
    script = importlib.util.module_from_spec(about)
    about.loader.exec_module(script)
    assert script.lowest("portalocker[win32]>=4.4,<5") == "portalocker==4.4"
    assert script.lowest("optax>=0.2.6,!=0.2.7,<0.3") == "optax==0.2.6"
    for requirement in PROJECT["dependencies"]:
        wanted, found = Requirement(requirement), Requirement(script.lowest(requirement))
        assert wanted.name == found.name and wanted.specifier.contains(next(iter(found.specifier)).version)
    with pytest.raises(SystemExit, match="has no lower bound"):
        script.lowest("numpy<3")


def audited(folder: Path, answer: str) -> subprocess.CompletedProcess[str]:
    """What scripts/audit.sh says where pip-audit answers so; each list that it is given is kept in the folder."""
    tool = folder / "pip-audit"
    tool.write_text(f'#!/bin/sh\nfor list; do :; done\ncp "$list" "{folder}"\n{answer}\n')
    tool.chmod(0o755)
    return subprocess.run([ROOT / "scripts" / "audit.sh", folder], capture_output=True, text=True)


def test_the_audit_looks_up_the_pins_of_every_python(tmp_path: Path) -> None:
    found = audited(tmp_path, "echo No known vulnerabilities found")
    assert found.returncode == 0 and "No known" in found.stdout, found.stderr
    lists = [[Requirement(line) for line in file.read_text().splitlines()] for file in tmp_path.glob("*.txt")]
    assert all(pin.marker is None for pins in lists for pin in pins)
    assert all(len({pin.name for pin in pins}) == len(pins) for pins in lists)  # pip-audit refuses a second
    assert sorted(str(pin) for pins in lists for pin in pins) == sorted(f"{p.name}{p.specifier}" for p in pinned())


@pytest.mark.parametrize(
    ("answer", "out", "err"),
    [
        ("echo Found 1 known vulnerability in 1 package; echo jinja2 3.1.6 >&2; exit 1", "jinja2 3.1.6", ""),
        (
            "echo Traceback >&2; echo ServiceError >&2; exit 1",
            "",
            "audit: nothing can be said, .* at PyPI: ServiceError\n",
        ),
    ],
)
def test_the_audit_fails_where_it_finds_or_cannot_look(tmp_path: Path, answer: str, out: str, err: str) -> None:
    found = audited(tmp_path, answer)
    assert found.returncode == 1 and out in found.stdout and re.fullmatch(err, found.stderr)
