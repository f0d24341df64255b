"""docs/mistakes.md: what a newcomer is likely to type wrong, and what diffsde says; a test holds the page against the program.

python scripts/mistakes.py
"""

from __future__ import annotations

import contextlib
import html
import io
import os
import shlex
import sys
import tempfile
from pathlib import Path

from diffsde.cli.main import main

PAGE = Path(__file__).parent.parent / "docs" / "mistakes.md"

# What was meant, and what was typed after `diffsde`; in a folder with points.csv and no runs.
MISTAKES: dict[str, list[tuple[str, str]]] = {
    "The command": [
        ("train on a path", "path=ot"),
        ("train", "trian path=ot"),
        ("train, in capital letters", "TRAIN path=ot"),
        ("the help of train", "train -help"),
        ("set a knob, as an option", "train --steps=100"),
        ("set a knob, as an option with a value", "train --batch-size 64"),
        ("sweep, with the dash of a page", "train –m seed=0,1"),
        ("see the config", "train --cfg"),
    ],
    "A word": [
        ("set a knob, without =", "train steps 100"),
        ("set a knob, with a blank after =", "train steps= 100"),
        ("choose a path, with a colon", "train path:ot"),
        ("choose a path, without its group", "train ot"),
        ("two words, in one pair of quotes", "train 'path=ot steps=100'"),
        ("choose a path, with the quotes of a page", "train path=“ot”"),
        ("one value, and a comma", "train path=ot,"),
        ("a folder of a run", "sample ."),
        ("take a knob away", "train ~steps"),
        ("a variable of the shell, in single quotes", "train 'name=${USER}'"),
    ],
    "A name": [
        ("a knob", "train stepz=100"),
        ("a knob, in capital letters", "train STEPS=100"),
        ("the learning rate", "train learning_rate=0.001"),
        ("how long to train", "train epochs=10"),
        ("the network", "train model=unet"),
        ("where to compute", "train device=cuda"),
        ("a path", "train path=optimal"),
        ("a number of another path", "train path=ot path.rate_min=0.1"),
        ("a number of a choice, without its group", "train net=mlp widths=[64,64]"),
        ("a sampler, in training", "train sampler=em"),
        ("a precision", "train precision=float16"),
    ],
    "A number": [
        ("a thousand, with a comma", "train steps=1,000"),
        ("a decimal comma", "train lr=0,001"),
        ("ten thousand", "train steps=10k"),
        ("a number out of its range", "train lr=-1"),
        ("several values, without -m", "train seed=0,1,2"),
        ("a range, without -m", "train 'seed=range(0,3)'"),
        ("a number, in a sweep", "train -m seed=0,1 steps=many"),
    ],
    "Data": [
        ("data of one's own", "train dataset=points.csv"),
        ("data of one's own, without dataset=array", "train dataset.file=points.csv"),
        ("a file", "train dataset=array dataset.file=pionts.csv"),
        ("a data set", "train dataset=moon"),
    ],
    "Runs": [
        ("sample, before anything is trained", "sample"),
        ("sample a run that is not there", "sample run=first"),
        ("sample the exact field", "sample run=oracle"),
        ("an SDE, by a solver of the ODE", "sample run=oracle dataset=gmm path=ot sampler=heun sigma=0.5"),
        ("compare runs that are not there", "compare outputs/train"),
    ],
}


def said(line: str) -> str:
    """What diffsde says to a command line, in a folder of its own with points.csv; it must be a line, with status 2."""
    before, out, err = Path.cwd(), io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "points.csv").write_text("x,y\n0,1\n1,0\n")
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main(shlex.split(line))
        finally:
            os.chdir(before)
        left = sorted(path.name for path in Path(folder).iterdir())
    lines = err.getvalue().splitlines()
    if status != 2 or len(lines) != 1 or left != ["points.csv"]:
        raise SystemExit(f"diffsde {line}: status {status}, left {left}, said {err.getvalue()!r}")
    return lines[0].removeprefix("diffsde: ")


def page() -> str:
    """The page, as Markdown."""
    count = sum(map(len, MISTAKES.values()))
    lines = [
        "# What a message means",
        "",
        f"The {count} mistakes that a newcomer is likeliest to make, and what diffsde says to each: one line, exit status 2, with nothing left behind. The",
        "table is made by `scripts/mistakes.py`, and a test holds it against the program. [Commands](commands.md) says what words there are.",
    ]
    for title, rows in MISTAKES.items():
        lines += ["", f"## {title}", "", "| meant | typed | said |", "|---|---|---|"]
        lines += [f"| {meant} | {code('diffsde ' + line)} | {code(said(line))} |" for meant, line in rows]
    return "\n".join(lines) + "\n"


def code(text: str) -> str:
    """Text in a cell, as it is typed."""
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;').replace('*', '&#42;')}</code>"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE}: {sum(map(len, MISTAKES.values()))} mistakes", file=sys.stderr)
