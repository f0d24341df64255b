"""The pictures of docs/course/, each by a command that stands on its page: python scripts/course_pictures.py [NAME ...]

It works in a folder of its own (--work DIR, kept), trains what the pages train, and says each command's seconds.
MNIST: --data DIR, a folder with its original files, is added to the commands that need it.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

COURSE = Path(__file__).resolve().parent.parent / "docs" / "course"
COLOURS, WIDTH = 192, 1400  # of a picture of the pages

# In the order of the pages, which matters where a command samples the run of the last: (picture, its file, the command).
COMMANDS = [
    (
        "",
        "",
        "diffsde simulate process=expression 'process.drift=[x2,-sin(x1)]' 'process.diffusion=[0,0]' sampler=euler 'x0=[2,0]' t_end=10 steps=500 n=5",
    ),
    (
        "",
        "",
        "diffsde simulate process=expression 'process.drift=[x2,-sin(x1)]' 'process.diffusion=[0,0.3]' sampler=em 'x0=[2,0]' t_end=10 steps=500 n=500",
    ),
    ("brownian", "paths.png", "diffsde simulate -m process=brownian sigma=0.3,1,3 x0=0 t_end=5"),
    (
        "ou",
        "paths.png",
        "diffsde simulate -m process=ou theta=0.25,1,4 sigma=0.3,1,3 'x0=[[-10],[-5],[0],[5],[10]]' t_end=5",
    ),
    ("", "", "diffsde simulate process=ou theta=0.7 sigma=0.9 x0=3.0 t_end=2.0 steps=400 n=20000 sampler=em"),
    ("density", "density.png", "diffsde show what=density dataset=gmm style=both scale=log"),
    (
        "langevin",
        "plots/law.png",
        "diffsde simulate process=langevin dataset=gmm dataset.components=5 dataset.radius=5 source=gaussian source.std=8 t_end=50 pictures=all",
    ),
    ("ou_langevin", "paths.png", "diffsde simulate -m process=ou,langevin 'x0=[3,-1]' t_end=8"),
    ("path", "path.png", "diffsde show what=path paths=[ot,vp,trig]"),
    ("conditional", "conditional.png", "diffsde show what=conditional dataset=gmm path=ot 'z=[[10,0]]' sigma=1"),
    ("", "", "diffsde train dataset=moons path=ot objective=cfm steps=3000"),
    ("flow", "plots/marginals.png", "diffsde sample sampler=euler steps=100 pictures=[marginals]"),
    ("", "", "diffsde train dataset=gmm path=ot objective=score steps=3000"),
    ("score", "plots/marginals.png", "diffsde sample sampler=em sigma=1 pictures=[marginals]"),
    ("", "", "diffsde train dataset=gmm path=ot objective=cfm hydra.run.dir=FLOW"),
    ("", "", "diffsde train dataset=gmm path=ot objective=score hydra.run.dir=SCORE"),
    (
        "difference",
        "field.png",
        "diffsde show what=field run=[FLOW,SCORE] quantity=score of=difference times=[0,0.3,0.6,0.9]",
    ),
    ("checkerboard", "data.png", "diffsde show what=data dataset=checkerboard"),
    ("linear", "conditional.png", "diffsde show what=conditional dataset=checkerboard path=ot 'z=[[3,3]]'"),
    ("", "", "diffsde train dataset=checkerboard path=ot steps=6000"),
    ("marginals", "marginals.png", "diffsde show what=marginals times=[0,0.25,0.5,0.75,1] n=20000"),
    ("circles", "plots/marginals.png", "diffsde train experiment=circles_to_checkerboard"),
    ("noising", "noising.png", "diffsde show what=noising dataset=mnist path=ot times=[0,0.25,0.5,0.75,1]"),
    ("", "", "diffsde train experiment=mnist_quick"),
    ("guidance", "samples.png", "diffsde sample -m guidance=1,3,5 labels=all n=100 steps=50"),
    ("", "", "diffsde train experiment=gmm_reference"),
]


def main() -> None:
    """Run the commands up to the last picture that is asked for, and keep the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", help="pictures to make; all where none is named")
    parser.add_argument("--work", default=None, help="the folder in which the commands run")
    parser.add_argument("--data", default=None, help="a folder with MNIST's original files")
    asked = parser.parse_args()
    work = Path(asked.work or tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    pages = "\n".join(page.read_text() for page in COURSE.glob("*.md"))
    for i, (name, file, command) in enumerate(COMMANDS):
        assert command in pages, f"no page has: {command}"
        needed = not asked.names or name in asked.names or (not name and any(each in asked.names for each in after(i)))
        if needed:
            folder = ran(i, command, work, asked.data)
            if name:
                keep(folder / file, name)


def after(i: int) -> list[str]:
    """The pictures of the commands that follow command i and may need its run."""
    return [name for name, _, command in COMMANDS[i + 1 :] if " show " in command or " sample " in command]


def ran(i: int, command: str, work: Path, data: str | None) -> Path:
    """Run a command and print its seconds; its folder."""
    words = shlex.split(command)
    own = [word.partition("=")[2] for word in words if word.startswith("hydra.run.dir=")]
    folder = own[0] if own else f"outputs/{words[1]}/course/{i:02d}"
    if not own:
        words.append(f"hydra.{'sweep' if '-m' in words else 'run'}.dir={folder}")
    if data and "mnist" in command:
        words.append(f"dataset.data_dir={data}")
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "diffsde", *words[1:]], cwd=work, env=os.environ, capture_output=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(f"{time.perf_counter() - begin:6.1f} s, CPU {cpu:6.1f} s  {command}", flush=True)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    return work / folder


def keep(picture: Path, name: str) -> None:
    """Write a picture into the pages' folder, in few colours and no wider than a page needs."""
    drawn = Image.open(picture).convert("RGB")
    if drawn.width > WIDTH:
        drawn = drawn.resize((WIDTH, round(drawn.height * WIDTH / drawn.width)), Image.Resampling.LANCZOS)
    (COURSE / "pictures").mkdir(exist_ok=True)
    drawn.quantize(COLOURS).save(COURSE / "pictures" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
