"""Table 2 of [SF]2M (2307.03672) in one: published beside measured, of the studies sf2m_by_ode, sf2m_by_sde and icfm_and_fm.

    python scripts/two_laws_table.py [--out outputs/published] [--write]

The studies are run by scripts/published_tables.py --only NAME; what of them is not done is said to be not measured, and of
icfm_and_fm taken from its own table. --write puts the table into docs/published.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from diffsde.report import published
from diffsde.runs import records

ROOT = Path(__file__).parent.parent
STUDIES, PAGE = ROOT / "configs" / "experiment" / "study", ROOT / "docs" / "published.md"
BEFORE, NAMES = "icfm_and_fm", ("sf2m_by_ode", "sf2m_by_sde")
MARK = "sf2m_table_2"
ENDS = (" to moons",)  # the columns of the table that are run here


def rows(out: Path) -> list[tuple[str, ...]]:
    """The rows of all studies whose data are moons."""
    found: list[tuple[str, ...]] = [] if (out / BEFORE).is_dir() else rows_of_page()
    for name in (BEFORE, *NAMES) if (out / BEFORE).is_dir() else NAMES:
        asked: dict[str, Any] = yaml.safe_load((STUDIES / f"{name}.yaml").read_text())["published"]
        there = out / name
        jobs = list(records.every(there)) if there.is_dir() else []
        found += [row for row in published.table(asked, jobs) if row[0].endswith(ENDS)]
    return found


def rows_of_page() -> list[tuple[str, ...]]:
    """The rows of moons in the page's table of the study BEFORE, where the study is not there."""
    text = PAGE.read_text().partition(f"<!-- {BEFORE} -->\n")[2].partition("<!-- end -->")[0]
    cells = [tuple(cell.strip() for cell in line.strip("| ").split("|")) for line in text.splitlines() if "|" in line]
    return [row for row in cells if row[0].endswith(ENDS)]


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--out", type=Path, default=Path("outputs/published"))
    asked.add_argument("--write", action="store_true")
    chosen = asked.parse_args()
    about = {"source": "[SF]2M (2307.03672v3), table 2: mean +- sd of 5 seeds"}
    table = published.markdown(about, rows(chosen.out)) + "\n"
    print(table)
    if chosen.write:
        before, rest = PAGE.read_text().split(f"<!-- {MARK} -->\n")
        PAGE.write_text(f"{before}<!-- {MARK} -->\n{table}<!-- end -->{rest.partition('<!-- end -->')[2]}")


if __name__ == "__main__":
    main()
