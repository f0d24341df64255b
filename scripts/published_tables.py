"""The tables of docs/published.md: every study of configs/experiment/study, published figures beside those measured here.

    python scripts/published_tables.py [--seeds 0,1,2] [--points 4000] [--out outputs/published] [--only icfm_and_fm] [--write]

A study that is done is not done again, so that the command goes on where it stopped; --write puts the tables into the page.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
STUDIES, PAGE = ROOT / "configs" / "experiment" / "study", ROOT / "docs" / "published.md"


def run(name: str, seeds: str, points: str, out: Path) -> str:
    """The table of a study, run first if it is not done; points: between which W2 is exact, 10,000 as published."""
    content = yaml.safe_load((STUDIES / f"{name}.yaml").read_text())
    fewer = [f"{'train' if 'train' in content else 'sample'}=seed={seeds}"]
    if "transport_points" in str(content.get("evaluate")):
        fewer.append(f"evaluate=transport_points={points}")
    command = [sys.executable, "-m", "diffsde", "study", f"experiment={name}", "threads=1", f"out={out}", *fewer]
    subprocess.run(command, check=True)
    return (out / "published.md").read_text() + "\n"


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--seeds", default="0,1,2")
    asked.add_argument("--points", default="4000")
    asked.add_argument("--out", type=Path, default=Path("outputs/published"))
    asked.add_argument("--only")
    asked.add_argument("--write", action="store_true")
    chosen = asked.parse_args()
    for name in [chosen.only] if chosen.only else sorted(path.stem for path in STUDIES.glob("*.yaml")):
        table = run(name, chosen.seeds, chosen.points, chosen.out / name)
        print(f"{name}\n\n{table}")
        if chosen.write and f"<!-- {name} -->\n" in PAGE.read_text():  # of some, two_laws_table.py makes one table
            before, rest = PAGE.read_text().split(f"<!-- {name} -->\n")
            PAGE.write_text(f"{before}<!-- {name} -->\n{table}<!-- end -->{rest.partition('<!-- end -->')[2]}")


if __name__ == "__main__":
    main()
