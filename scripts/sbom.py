"""What is installed beside this Python, as a CycloneDX list: scripts/sbom.py CYCLONEDX_PY FILE"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import diffsde

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def main(cyclonedx_py: str, file: str) -> None:
    """Write the list, and in it diffsde's own version: it is no line of pyproject.toml, where cyclonedx-py looks for it."""
    command = [cyclonedx_py, "environment", "--output-reproducible", "--pyproject", str(PYPROJECT), sys.executable]
    listed = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    listed["metadata"]["component"]["version"] = diffsde.__version__
    Path(file).write_text(json.dumps(listed, indent=2) + "\n")
    print(f"== {file}: diffsde {diffsde.__version__} and {len(listed['components'])} packages")


if __name__ == "__main__":
    main(*sys.argv[1:])
