"""The lowest versions that pyproject.toml allows, as constraints for pip: scripts/lowest_versions.py > lowest.txt"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def lowest(requirement: str) -> str:
    """name==version of a requirement name>=version,...; without the extra that it asks for, which a constraint may not have."""
    found = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?>=([0-9.]+)(?:,.*)?", requirement)
    if found is None:
        raise SystemExit(f"{PYPROJECT.name}: '{requirement}' has no lower bound; write name>=version,<version")
    return f"{found[1]}=={found[2]}"


def main() -> None:
    """Print a line for each of the project's dependencies; the tools' versions are left open."""
    for requirement in tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]:
        print(lowest(requirement))


if __name__ == "__main__":
    main()
