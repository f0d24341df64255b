"""Likelihood as the objective: KL, NLL and CPU seconds of CFM, CNF and discrete flows, on four data sets, as a table of Markdown.

    python scripts/likelihood_table.py [folder]      about an hour of one core; finished runs in the folder are not run again

Every model is trained and measured by diffsde's own commands with threads=1, each in a process of its own, at the defaults but for
the words of WORDS. CPU seconds are user and system time: of training without compiling (summary.json), of drawing 10,000 samples
(images: as many as there are test images) by the model's default sampler, and without compiling too. KL and NLL are of points that
no model was trained on, KL exact where the law is known; of CFM and CNF by the ODE (evaluate's own defaults).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

METHODS = {
    "CFM": "objective=cfm",
    "CNF": "objective=likelihood",
    "RealNVP": "objective=likelihood net=realnvp",
    "spline": "objective=likelihood net=spline",
}
DATA = {
    "gmm": "dataset=gmm",
    "moons": "dataset=moons",
    "checkerboard": "dataset=checkerboard",
    "digits": "dataset=digits dataset.dequantise=true",
}
# Digits are 1,437 images: beyond so many steps every model fits them better and held-out images worse. A step of a CNF costs as
# much as dozens of flow matching's (some 60 evaluations and their derivatives), so that it takes fewer.
WORDS = {
    ("CNF", "gmm"): "steps=300",
    ("CNF", "moons"): "steps=300",
    ("CNF", "checkerboard"): "steps=300",
    ("CFM", "digits"): "steps=1000",
    ("CNF", "digits"): "steps=100",
    ("RealNVP", "digits"): "steps=400 lr=0.003",
    ("spline", "digits"): "steps=400 lr=0.003",
}
COMMON = "threads=1 pictures=none".split()


def diffsde(*words: str) -> None:
    """Run a command in a process of its own."""
    print("diffsde", *words, flush=True)
    subprocess.run([sys.executable, "-m", "diffsde", *words], check=True)


def summary_of(place: Path, verb: str, *words: str) -> dict[str, Any]:
    """The summary of a job in `place`, which is run where it is not finished."""
    if not (place / "summary.json").exists():
        diffsde(verb, *words, f"hydra.run.dir={place}")
    return json.loads((place / "summary.json").read_text())


def cell(figure: dict[str, Any] | None) -> str:
    """A figure with its error."""
    return "" if figure is None else f"{figure['value']:.3f} +- {figure['error']:.3f}"


def row(folder: Path, method: str, data: str) -> list[str]:
    """The cells of a model on a data set, which is trained, sampled and evaluated where that is not yet done."""
    run = folder / data / method
    words = [*DATA[data].split(), *METHODS[method].split(), *WORDS.get((method, data), "").split()]
    trained = summary_of(run, "train", *words, *COMMON)
    n = ["n=360"] if data == "digits" else ["n=10000"]
    drawn = summary_of(folder / data / f"{method}-samples", "sample", f"run={run}", *n, *COMMON)
    judged = summary_of(
        folder / data / f"{method}-judged", "evaluate", f"run={run}", "metrics=[likelihood]", "threads=1"
    )["metrics"]
    nll = judged.get("bits_per_dim") or judged.get("nll")
    unit = "bits/dim" if "bits_per_dim" in judged else "nats"
    return [
        data,
        method,
        f"{trained['parameters']:,}",
        f"{trained['steps']:,}",
        cell(judged.get("kl")),
        f"{cell(nll)} {unit}",
        f"{trained['cpu_seconds']:.1f}",
        f"{drawn['cpu_seconds']:.2f}",
        f"{drawn['nfe']:.0f}",
    ]


def main(folder: Path, only: list[str]) -> None:
    """Print the table; only: methods, all if empty."""
    head = ["data", "model", "parameters", "steps", "KL (nats)", "NLL", "train CPU s", "sample CPU s", "NFE"]
    rows = [row(folder, method, data) for data in DATA for method in METHODS if not only or method in only]
    for line in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "likelihood"), sys.argv[2:])
