"""Every command of README and docs runs, with fewer steps and points than it says; every block of Python runs as it stands."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffsde.cli.main import main
from diffsde.cli.plain import PLAIN

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = {
    page: re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.M | re.S)
    for page in PAGES
    if page.name != "measurements.md"  # whose commands are those of scripts/
}
COMMANDS = sorted(
    {
        line.split("  #")[0].strip()
        for blocks in BLOCKS.values()
        for kind, text in blocks
        for line in text.replace("\\\n", " ").splitlines()
        if kind in ("", "sh", "bash") and line.startswith("diffsde ")
    }
)
ELSEWHERE = {  # what a command needs that no test machine has
    "coordinator=": "other processes",
    "submitit": "a SLURM cluster",
    "devices=2": "several devices",
    "mnist_conditional": "an accelerator",
    "--": "it only prints, which test_readme runs",
    "study experiment=": "minutes; test_published composes it",
}
NEEDS = {"optuna": "hydra_plugins.hydra_optuna_sweeper", "mlflow": "mlflow", "wandb": "wandb", "digits": "sklearn"}
QUICK = {  # what each verb takes less of
    "train": {"steps": "20", "batch_size": "32", "log_every": "10"},
    "sample": {"n": "60"},
    "evaluate": {"n": "40", "n_test": "20", "solver_steps": "4"},
    "simulate": {"n": "60"},
    "show": {},
}
ON_IMAGES = ("frechet", "measurement=", "comparison", "denoising", "interpolations")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files that the pages speak of, a run on the mixture and one on images, both with labels."""
    where = tmp_path_factory.mktemp("docs")
    rng, before = np.random.default_rng(0), Path.cwd()
    np.save(where / "points.npy", rng.normal(size=(200, 2)))
    np.savetxt(where / "points.csv", rng.normal(size=(200, 3)), delimiter=",", header="a,b,c", comments="")
    np.save(where / "images.npy", rng.integers(0, 255, (200, 8, 8, 1), np.uint8))
    np.save(where / "y.npy", rng.integers(0, 3, 200))
    for name, text in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", (ROOT / "docs/plugins.md").read_text(), re.S):
        (where / name).write_text(text)
    for kind in ("cats", "dogs"):
        (where / "photos" / kind).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(where / "photos" / kind / f"{i}.png")
    os.chdir(where)
    labelled = ["dataset.conditional=true", "steps=40", "batch_size=64", "log_every=10"]
    assert main(["train", *labelled, "ema=[0.9,0.99]", "best=true", "hydra.run.dir=outputs/train/day/points"]) == 0
    images = ["dataset=array", "dataset.file=images.npy", "dataset.labels=y.npy", "dataset.test=0.2", "net=mixer"]
    assert main(["train", *labelled, *images, "hydra.run.dir=outputs/train/day/images"]) == 0
    assert (
        main(["sample", "run=outputs/train/day/points", "n=60", "steps=4", "hydra.run.dir=outputs/sample/day/1"]) == 0
    )
    yield where
    os.chdir(before)


def quick(command: str) -> list[str]:
    """The words of a command with less of everything, of the runs of `place`."""
    _, verb, *words = shlex.split(command)
    if verb == "study":
        return [verb, *(quick_stage(*word.partition("=")[::2]) for word in words)]
    run = "outputs/train/day/" + ("images" if any(word in command for word in ON_IMAGES) else "points")
    words = [
        re.sub("FOLDER|FLOW|SCORE", "outputs/sample/day/1" if word.startswith("samples=") else run, word)
        for word in words
    ]
    words = [re.sub(r"\boutputs/train/\*/\*", "outputs/train/day/points", word) for word in words]
    words = [re.sub(r"^(run|init)=(?!outputs|oracle|latest|glob|\[).*", rf"\1={run}", word) for word in words]
    keys = {word.partition("=")[0] for word in words}
    if verb in ("sample", "evaluate") and not keys & {"run", "samples"}:
        words.append(f"run={run}")
    words = [word for word in words if not word.startswith("hydra.run.dir=")]
    if verb == "show" and not keys & {"run", "paths", "path", "dataset"}:
        words.append(f"run={run}")
    going_on = verb == "train" and "run" in keys
    less = {} if going_on or "samples" in keys else QUICK.get(verb, {})
    words = [word for word in words if verb != "train" or not word.startswith("steps=") or going_on]
    words = [re.sub(r"^steps=50000", "steps=50", re.sub(r"n_trials=\d+", "n_trials=2", word)) for word in words]
    return [verb, *words, *(f"{key}={value}" for key, value in less.items() if key not in keys or key == "steps")]


def quick_stage(stage: str, text: str) -> str:
    """A stage of a study with less of everything."""
    less = {"train": QUICK["train"], "sample": {"n": "60"}, "evaluate": {"n_test": "20", "solver_steps": "4"}}[stage]
    words = [word for word in shlex.split(text.replace("range(0,3)", "0")) if word.partition("=")[0] not in less]
    return f"{stage}={shlex.join([*words, *(f'{key}={value}' for key, value in less.items())])}"


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(
    command: str, place: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    for word, why in ELSEWHERE.items():
        if word in command:
            pytest.skip(f"it needs {why}")
    for word, module in NEEDS.items():
        if word in command and not importlib.util.find_spec(module.partition(".")[0]):
            pytest.skip(f"{module} is not installed")
    if command.split()[1] in PLAIN:
        if main(shlex.split(command)[1:]) != 0:  # of runs that are not here
            said = capsys.readouterr().err
            assert " matches no run" in said or "where: no job has path=vp" in said, said
        return
    words = quick(command)
    if "mnist" in command:
        request.getfixturevalue("mnist")
    assert main(words) == 0, capsys.readouterr().err


LESS = [  # of the course's Python, which is run with fewer steps and without MNIST
    (r"steps=\d{4}", "steps=20"),
    (r'experiment="gmm_reference"', 'experiment="gmm_reference", steps=20'),
    (r'objective="(cfm|score)"\)', r'objective="\1", steps=20)'),
    (r'experiment="mnist_quick"', 'experiment="digits", steps=20'),
    (r'dataset="mnist"', 'dataset="digits"'),
    (r"n=20000|n=500", "n=200"),
]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["lab-1", "lab-2", "lab-3"])
def test_the_courses_python_runs(page: str, place: Path) -> None:
    code = "\n".join(text for kind, text in BLOCKS[ROOT / "docs" / "course" / f"{page}.md"] if kind == "python")
    for pattern, less in LESS:
        code = re.sub(pattern, less, code)
    exec(compile("import diffsde\n" + code, page, "exec"), {})


@pytest.mark.slow
@pytest.mark.parametrize("lab", [1, 2, 3])
def test_the_courses_scripts_run(lab: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICK", "1")
    monkeypatch.setenv("DATASET", "digits")
    exec(compile((ROOT / "scripts" / f"course_lab_{lab}.py").read_text(), f"course_lab_{lab}.py", "exec"), {})
