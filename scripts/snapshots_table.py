"""The table and the picture of snapshots in docs/two-laws.md: python scripts/snapshots_table.py [--work DIR] [--steps N]

One field through four snapshots of dataset=drifting, the middle one of five left out, by independent and by optimal pairs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "snapshots.png"
COLOURS, WIDTH = 192, 1200


def main() -> None:
    """Train and evaluate by each coupling, print a row for each, and keep the picture of the second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--work", default=None, help="the folder in which the commands run")
    parser.add_argument("--steps", type=int, default=3000)
    asked = parser.parse_args()
    work = Path(asked.work or tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)

    def diffsde(*words: str) -> None:
        done = subprocess.run([sys.executable, "-m", "diffsde", *words], cwd=work, capture_output=True)
        if done.returncode:
            raise SystemExit(done.stderr.decode())

    print("| pairs | left out, W2 | (true points) | the others, W2 | (true points) |\n|---|---:|---:|---:|---:|")
    for coupling in ("independent", "ot"):
        run = f"{coupling}_{asked.steps}"
        words = ["dataset=drifting", "dataset.leave_out=2", f"coupling={coupling}", f"steps={asked.steps}"]
        diffsde("train", *words, f"hydra.run.dir={run}")
        diffsde("evaluate", f"run={run}", "metrics=[snapshots]", "steps=100", f"hydra.run.dir={run}_judged")
        found = json.loads((work / f"{run}_judged" / "summary.json").read_text())["metrics"]
        cells = [
            cell
            for name in ("left_out_w2", "next_w2")
            for cell in (
                f"{found[name]['value']:.3f} +- {found[name]['error']:.3f}",
                f"{found[name]['floor']:.3f} +- {found[name]['floor_error']:.3f}",
            )
        ]
        print(f"| `coupling={coupling}` | {' | '.join(cells)} |", flush=True)
    diffsde("sample", f"run={run}", "steps=100", "n=2000", f"hydra.run.dir={run}_drawn")
    drawn = Image.open(work / f"{run}_drawn" / "plots" / "trajectories.png").convert("RGB")
    drawn.thumbnail((WIDTH, WIDTH))
    drawn.quantize(COLOURS).save(PICTURE, optimize=True)
    print(f"picture: {PICTURE}")


if __name__ == "__main__":
    main()
