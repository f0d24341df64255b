"""The command line as a user types it: what it refuses, in one line with exit status 2 and nothing left behind."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from diffsde.build import table
from diffsde.cli import help_text
from diffsde.cli.job import config_folder
from diffsde.cli.main import composed, main
from diffsde.cli.other_names import OTHERS, plain
from diffsde.runs import machine
from diffsde.samplers import Sampler

QUICK = ["steps=20", "batch_size=64", "net.widths=[16]", "log_every=10"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", *QUICK, f"hydra.run.dir={folder}"]) == 0
    return folder


REFUSED = [
    ("train path=otx", "path: 'otx' is not a choice (did you mean 'ot'?)"),
    ("train objektive=cfm", "objektive is not known (did you mean 'objective'?)"),
    ("train stepz=3", "stepz is not known (did you mean 'steps'?)"),
    ("train net.widthss=[3]", "net.widthss is not known (did you mean 'net.widths'?)"),
    ("train path=ot path.rate_min=1", "this path has no rate_min; it belongs to path=subvp or vp"),
    ("sample optimizer.lr=1", "optimizer.lr= is a word of diffsde train, not of sample"),
    ("train sampler=em", "sampler= is a word of diffsde evaluate, explain, sample, show and simulate, not of train"),
    ("sample sampler=xyz", "sampler: 'xyz' is not a choice; choose one of ab2, ab3, adaptive"),
    ("sample guidance=1,2", "a decimal point is a dot, guidance=1.2; -m sweeps over several values"),
    ("sample run=oracle diffusion=a,b", "diffsde: diffusion=a,b is a list of values: sweep them with -m"),
    ("train path ot", "'path' is not key=value; write path=ot, without blanks"),
    ("sample sampler=heun sampler.diffusion.sigma=1", "this sampler has no diffusion; take sampler=em"),
    ("sample sampler=em sampler.diffusion.sigma_t=t", "no sigma_t; it belongs to diffusion=expression"),
    ("train ++unknown=1", "unknown is not known"),
    ("train ++path.unknown=1", "path.unknown is not known"),
    ("train path=null", "path=null: a group needs one of its choices: bridge, cosine, edm"),
    ("train steps=many", "steps is 'many'; it must be a whole number"),
    ("train steps=1.5", "steps is 1.5; it must be a whole number"),
    ("train steps=0", "steps is 0; it must be 1 or more"),
    ("train batch_size=0", "batch_size is 0; it must be 1 or more"),
    ("train lr=-1", "lr is -1; it must be positive"),
    ("train ema=1", "ema is 1; it must be in [0, 1)"),
    ("train net.activation=sulu", "activation is 'sulu'"),
    ("train objective.weight=unti", "weight is 'unti'"),
    ("train path=expression path.beta_t=1+", "'1+' is not an expression"),
    ("train path=expression path.beta_t=1+x", "'x' in '1+x' is unknown"),
    ("train path=expression path.beta_t=1+t path.alpha_t=1-t", "alpha/beta does not increase"),
    ("train dataset=array", "file is not given"),
    ("train dataset=array dataset.file=absent.npy", "'absent.npy' is not a file"),
    ("train dataset=mixture dataset.stds=[1.0]", "stds has 1 entries for 2 means"),
    ("train --config-dir absent", "absent"),
    ("train --confg job", "'--confg' is not an option (did you mean '--cfg'?)"),
    ("train path.rate_min=[", "path.rate_min=[ cannot be read: '[' and ']' do not match"),
    ("explain process=ou", "process= is a word of diffsde simulate, not of explain"),
    ("trian", "'trian' is not a verb (did you mean 'train'?)"),
    ("train accumulate=3", "accumulate is 3; it must divide batch_size=512"),
    ("train ema=[0.9,0.9]", "ema is [0.9, 0.9]; it has the same decay twice"),
    ("train metric=fid", "metric is 'fid'; choose one of loss, cross_entropy_gap"),
    (
        "train metric=frechet",
        "metric: 'frechet' is not a metric of runs on this dataset; choose one of loss, cross_entropy,",
    ),
    ("train precision=float16", "precision is 'float16'; choose one of float32, bfloat16, float64"),
    ("train run=absent", "there is no folder 'absent'"),
    (
        "train run=latest seed=3",
        "run= goes on with a run under its own config, for more steps= if need be; it cannot be combined with seed=3",
    ),
    ("train processes=2", "need coordinator=host:port"),
    ("train coordinator=localhost:1 processes=2 rank=2", "must be one of 0 to 1"),
    ("train coordinator=localhost", "needs host:port"),
    ("train coordinator=slurm", "this is no step of a SLURM job; start it by srun"),
    ("train shard=true", "there is only one"),
    ("train -m stepz=1,2", "stepz is not known"),
    ("train -m seed=0,1 hydra/launcher=batsh", "'batsh' is not a choice (did you mean 'batch'?)"),
    ("train -m seed=0,1 hydra/launcher=batch hydra.launcher.together=both", "'both' is not known; choose one of auto"),
    ("sample run=oracle dataset=gmm path=ot ema=0.9", "run=oracle has no checkpoint and no ema"),
    ("sample", "no trained run"),
    ("sample run=absent", "there is no folder 'absent'"),
    ("sample run=oracle", "run=oracle needs a dataset= and a path="),
    ("sample run=oracle dataset=moons path=ot", "knows the exact field of mixtures"),
    ("sample run=oracle dataset=gmm path=ot sampler=hune", "did you mean 'heun'?"),
    (
        "sample run=oracle dataset=gmm path=ot sampler=flow_map last=denoise",
        "the last jump, which sampler=flow_map is for",
    ),
    (
        "sample sampler=consistency diffusion=bump",
        "diffusion: sampler=consistency draws noise of its own, which no sigma_t",
    ),
    ("sample sampler=ab2 diffusion=bump", "diffusion: this sampler solves the ODE and has none"),
    ("sample run=oracle dataset=gmm path=ot sampler=em sigma=-1", "sigma is -1; it must be 0 or more"),
    ("sample run=oracle dataset=gmm path=ot sampler=heun sigma=0.5", "take sampler=em"),
    ("sample run=oracle dataset=gmm path=ot sampler=heun diffusion=bump", "take sampler=em"),
    ("sample run=oracle dataset=gmm path=ot sampler=ald sigma=0", "the noise of this sampler is not set by it"),
    ("explain sampler=reverse_diffusion sigma=1", "the noise of this sampler is not set by it"),
    ("explain sampler=pc sampler@sampler.predictor=dpmpp_2m", "method without memory"),
    ("sample run=oracle dataset=gmm path=ot sampler=pc coupled=true", "one Brownian path: em, stochastic_heun"),
    ("train -m seed=0,1 hydra.run.dir=here", "hydra.sweep.dir=DIR"),
    ("train threads=0", "threads is 0; it must be 1 or more"),
    ("sample run=oracle dataset=gmm path=ot sampler=em diffusion=memoryless", "grid.start=0.001"),
    ("sample run=oracle dataset=gmm path=ot n=0", "n is 0; it must be 1 or more"),
    ("sample run=oracle dataset=gmm path=ot steps=0", "steps is 0; it must be 1 or more"),
    ("sample run=oracle dataset=gmm path=ot keep=3", "save_every"),
    ("sample run=oracle dataset=gmm path=ot last=maen", "last is 'maen'"),
    ("sample run=oracle dataset=gmm path=ot grid.start=1", "start must be below end"),
]


def test_samplers_with_noise_of_their_own_are_named() -> None:
    kinds = {name: kind() for name, kind in table(Sampler).items()}
    own = [name for name, kind in kinds.items() if kind.stochastic and not hasattr(kind, "diffusion")]
    assert sorted(own) == sorted(help_text.OWN_NOISE)


@pytest.mark.parametrize(("line", "says"), REFUSED, ids=[line for line, _ in REFUSED])
def test_refused_in_one_line_with_nothing_left_behind(
    line: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("diffsde: ") and error.count("\n") == 1, error
    assert says in error
    assert list(here.iterdir()) == []


def test_a_broken_yaml_of_the_users_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine" / "path").mkdir(parents=True)
    (here / "mine" / "path" / "broken.yaml").write_text("name: [ot\n")
    assert main(["train", "--config-dir", "mine", "path=broken"]) == 2
    error = capsys.readouterr().err
    assert "broken.yaml" in error and "line 1" in error and error.count("\n") == 1
    assert not (here / "outputs").exists()


def test_the_users_own_choices_come_in_by_config_dir(here: Path) -> None:
    (here / "mine" / "path").mkdir(parents=True)
    (here / "mine" / "path" / "slow.yaml").write_text("name: vp\nrate_min: 0.2\nrate_max: 10\n")
    assert main(["train", "--config-dir", "mine", "path=slow", *QUICK, "hydra.run.dir=run"]) == 0
    kept = json.loads((here / "run" / "config.json").read_text())["config"]["path"]
    assert kept == {"name": "vp", "rate_min": 0.2, "rate_max": 10}


def test_a_folder_that_is_no_run_or_has_no_checkpoint(
    here: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty").mkdir()
    assert main(["sample", "run=empty"]) == 2
    assert "'empty' is not a run folder (it has no config.json)" in capsys.readouterr().err
    (here / "empty" / "config.json").write_text((trained / "config.json").read_text())
    assert main(["sample", "run=empty"]) == 2
    assert "'empty' has no checkpoint" in capsys.readouterr().err
    (here / "empty" / "config.json").write_text("{")
    assert main(["sample", "run=empty"]) == 2
    assert "run: 'empty/config.json' cannot be read: it is no JSON of ours" in capsys.readouterr().err
    assert sorted(entry.name for entry in here.iterdir()) == ["empty"]


def test_train_writes_the_run_folder(trained: Path) -> None:
    names = {str(path.relative_to(trained)) for path in trained.rglob("*") if "checkpoints" not in str(path)}
    assert names == {
        ".lock", "config.json", "metrics.jsonl", "summary.json",
        ".hydra", ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml",
    }  # fmt: skip
    assert [json.loads(line)["step"] for line in (trained / "metrics.jsonl").read_text().splitlines()] == [10, 20]
    assert json.loads((trained / "summary.json").read_text())["steps"] == 20
    assert (trained / "checkpoints" / "20").is_dir()


def test_a_run_is_not_overwritten(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "config.json").read_bytes(), (trained / ".hydra" / "overrides.yaml").read_bytes()
    assert main(["train", *QUICK, "seed=7", f"hydra.run.dir={trained}"]) == 2
    assert "already holds another run" in capsys.readouterr().err
    assert before == ((trained / "config.json").read_bytes(), (trained / ".hydra" / "overrides.yaml").read_bytes())


def test_sample_writes_its_folder_and_is_reproducible(here: Path, trained: Path) -> None:
    words = ["sample", f"run={trained}", "n=300", "steps=10", "sampler=em", "sigma=0.5", "save_every=5", "keep=7"]
    assert main([*words, "hydra.run.dir=a"]) == 0
    assert main([*words, "hydra.run.dir=b", "plots=false"]) == 0
    a, b = (np.load(here / name / "samples.npz")["x"] for name in "ab")
    assert a.dtype == np.float32 and a.shape == (300, 2)
    np.testing.assert_array_equal(a, b)
    trajectory = np.load(here / "a" / "trajectory.npz")
    np.testing.assert_allclose(trajectory["times"], [0, 0.5, 1])
    np.testing.assert_array_equal(trajectory["x"][-1], a[:7])
    summary = json.loads((here / "a" / "summary.json").read_text())
    assert summary["nfe"] == 10 and summary["metrics"]["cross_entropy"]["exact"] == pytest.approx(5.222092, abs=1e-5)
    drawn = {path.name for path in (here / "a" / "plots").iterdir()}
    assert drawn == {"trajectories.png", "marginals.png", "cloud.gif"} and not (here / "b" / "plots").exists()


def test_latest_is_the_run_that_finished_last(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        assert main(["train", *QUICK, f"seed={seed}", f"hydra.run.dir=outputs/train/{'ba'[seed - 1]}"]) == 0
    capsys.readouterr()
    assert main(["sample", "n=10", "steps=2", "plots=false"]) == 0
    assert "outputs/train/a" in capsys.readouterr().out


def test_a_multirun_makes_a_folder_for_each_job(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "-m", "path=ot,sqrt", "seed=0,bad", *QUICK, "hydra.sweep.dir=sweep"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("seed is 'bad'") == 2 and "job 1" in error and "job 3" in error
    names = {path.name for path in (here / "sweep").iterdir()}
    tables = {"sweep.csv", "compare.md", "compare.tex", "compare.png"}
    assert names == {".lock", "0", "1", "2", "3", "multirun.yaml", "sweep.json", *tables}
    assert [path.name for path in (here / "sweep" / "1").iterdir()] == ["error.json"]
    kept = json.loads((here / "sweep" / "2" / "config.json").read_text())["config"]
    assert kept["path"]["name"] == "sqrt"


def test_numbers_may_be_written_as_1e1(here: Path) -> None:
    assert main(["train", *QUICK, "steps=1e1", "hydra.run.dir=run"]) == 0
    assert json.loads((here / "run" / "summary.json").read_text())["steps"] == 10


def test_two_runs_started_together_get_two_folders(here: Path) -> None:
    words = [sys.executable, "-m", "diffsde", "train", *QUICK]
    both = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(list((here / "outputs" / "train").glob("*/*/summary.json"))) == 2


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["sample", "-h"]])
def test_help_is_instant_and_teaches(words: list[str], here: Path) -> None:
    """Well under a second, without jax or hydra: measured in CPU seconds of a fresh process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = subprocess.run([sys.executable, "-m", "diffsde", *words], capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.6
    assert "diffsde sample sampler=em sigma=0.5" in shown or "diffsde train path=ot objective=cfm" in shown
    code = f"import sys; from diffsde.cli.main import main; main({words!r}); print('jax' in sys.modules or 'hydra' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "False"


def test_verb_help_lists_every_group_choice_and_knob(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--help"])
    shown = capsys.readouterr().out
    for word in ("8gaussians", "expression", "[ot]", "[cfm]", "batch_size=512", "log_normal", "gmm_reference"):
        assert word in shown


def test_the_oracle_needs_no_training_on_any_path(here: Path) -> None:
    """run=oracle converges to the mixture: Heun at 200 steps has the entropy within sampling error."""
    for path in ("ot", "sqrt", "vp", "cosine"):
        words = [
            "sample",
            "run=oracle",
            "dataset=gmm",
            f"path={path}",
            "sampler=heun",
            "steps=200",
            "n=4000",
            "plots=false",
        ]
        assert main([*words, f"hydra.run.dir={path}"]) == 0
        figure = json.loads((here / path / "summary.json").read_text())["metrics"]["cross_entropy"]
        assert abs(figure["value"] - figure["exact"]) < 4 * figure["error"]


def test_the_published_experiment_is_what_it_was(here: Path) -> None:
    """Raw t and no preconditioning, no average, constant rate; sampled by Euler-Maruyama in 299 steps, noise and all."""
    assert main(["train", "experiment=gmm_reference", "steps=2", "hydra.run.dir=run"]) == 0
    kept = json.loads((here / "run" / "config.json").read_text())["config"]
    assert kept["path"]["name"] == "sqrt" and not kept["precondition"] and kept["ema"] == 0
    assert kept["net"]["widths"] == [1024, 16] and kept["net"]["time_frequencies"] == 0
    assert kept["optimizer"]["lr"] == 1e-3 and kept["optimizer"]["schedule"] == "constant"
    assert kept["objective"]["weight"] == "unit" and kept["batch_size"] == 1000
    assert json.loads((here / "run" / "summary.json").read_text())["parameters"] == 20_530
    assert main(["sample", "experiment=gmm_reference", "run=run", "plots=false", "hydra.run.dir=drawn"]) == 0
    summary = json.loads((here / "drawn" / "summary.json").read_text())
    assert (summary["steps"], summary["nfe"], summary["n"], summary["last"]) == (299, 299, 1000, "step")


def test_every_experiment_composes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each recipe for either verb yields a config that the verb accepts."""
    import yaml

    from diffsde.cli.main import config_folder
    from diffsde.runs.sample_config import sample_choices
    from diffsde.runs.train_config import train_choices

    for verb, choices in (("train", train_choices), ("sample", sample_choices)):
        for path in (config_folder() / "experiment" / verb).glob("*.yaml"):
            assert main([verb, f"experiment={path.stem}", "--cfg", "job", "--resolve"]) == 0
            choices(yaml.safe_load(capsys.readouterr().out))
            assert path.read_text().startswith(f"# diffsde {verb} experiment={path.stem}")


def completed(line: str) -> list[str]:
    """What bash offers where the line ends, by the script that diffsde gives it."""
    words = line.split() + ([""] if line.endswith(" ") else [])
    typed = " ".join(f"'{word}'" for word in words)
    text = f"""diffsde() {{ '{sys.executable}' -m diffsde "$@"; }}
    eval "$(diffsde -sc install=bash)"
    COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD={len(words) - 1}
    COMP_WORDS=({typed})
    _diffsde_complete
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    shown = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    assert not shown.stderr
    return shown.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("diffsde tr", ["train "]),
        ("diffsde train path=s", ["path=sqrt", "path=subvp"]),
        ("diffsde train -m path=ot,s", ["path=ot,sqrt", "path=ot,subvp"]),
        ("diffsde train optimizer.sch", ["optimizer.schedule="]),
        ("diffsde train optimizer.schedule=w", ["optimizer.schedule=wsd", "optimizer.schedule=wsd_linear"]),
        ("diffsde train dataset=array dataset.file=po", ["dataset.file=points.npy"]),
        ("diffsde train --mul", ["--multirun "]),
        ("diffsde sample run=o", ["run=oracle", "run=outputs/train/2026-01-01/12-00-00"]),
        ("diffsde evaluate samples=outputs/", ["samples=outputs/sample/2026-01-01/12-00-00-sweep/0"]),
        ("diffsde sample coupled=", ["coupled=true", "coupled=false"]),
    ],
)
def test_tab_completion(here: Path, line: str, offered: list[str]) -> None:
    (here / "points.npy").touch()
    (here / "outputs/train/2026-01-01/12-00-00").mkdir(parents=True)
    (here / "outputs/train/2026-01-01/12-00-00/config.json").touch()
    (here / "outputs/sample/2026-01-01/12-00-00-sweep/0").mkdir(parents=True)
    (here / "outputs/sample/2026-01-01/12-00-00-sweep/0/config.json").touch()
    assert completed(line) == offered


def test_completion_is_installed_once(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shell's start-up file gets the line that test_tab_completion evaluates, after what is there; a second time nothing."""
    monkeypatch.setenv("HOME", str(here))
    (here / ".zshrc").write_text("alias ll='ls -l'")
    for _ in range(2):
        assert main(["--install-completion", "zsh"]) == 0
        assert (here / ".zshrc").read_text() == "alias ll='ls -l'\neval \"$(diffsde -sc install=zsh)\"\n"
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert main(["--install-completion"]) == 2
    assert "'fish' is not one of bash, zsh" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "words", "same"),
    [
        ("sample", "sampler=Euler-Maruyama", "sampler=em"),
        ("simulate", "process=langevin source=normal", "process=langevin source=gaussian"),
        ("sample", "sampler=dpm-solver++ grid=karras", "sampler=dpmpp_2m grid=rho"),
        ("train", "path=GVP objective=epsilon dataset=two_moons", "path=trig objective=noise dataset=moons"),
    ],
)
def test_names_of_elsewhere_are_understood(verb: str, words: str, same: str) -> None:
    assert composed(verb, words.split()) == composed(verb, same.split())


def test_names_of_elsewhere_are_of_choices_that_are_there() -> None:
    """Each means one choice of its group, and is no choice's own name, which would be lost."""
    for group, others in OTHERS.items():
        ours, theirs = help_text.choices(config_folder(), group), " ".join(others.values()).split()
        assert not ours or set(others) <= set(ours), group
        assert len(theirs) == len({*theirs}) and not {*theirs} & {plain(name) for name in ours}, group


def test_help_of_a_choice_has_a_line_for_each_of_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "sampler=pc", "sampler.predictor=em", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "sampler.corrections=1 " in shown and "number of Langevin steps per step" in shown
    for group in filter(Path.is_dir, config_folder().iterdir()):
        if group.name not in ("experiment", "hydra", "knobs"):
            for choice in help_text.choices(config_folder(), group.name):
                assert help_text.choice_help(config_folder(), group.name, choice)


def test_completion_and_cheap_refusals_wait_for_no_import(here: Path) -> None:
    """The shell asks at every press of a key: neither hydra nor jax; a wrong word, or a number out of its range: no jax."""

    def imported(*words: str, **env: str) -> set[str]:
        text = "import sys; from diffsde.cli.main import main; main(sys.argv[1:]); print('modules', *sys.modules)"
        found = subprocess.run(
            [sys.executable, "-c", text, *words], env=os.environ | env, capture_output=True, text=True, check=True
        )
        return set(found.stdout.splitlines()[-1].split())

    assert not imported(COMP_LINE="diffsde train path=s") & {"hydra", "jax", "numpy"}
    cheap = (
        ["train", "lr=-1"],
        ["train", "optimizer.schedule=cosin"],
        ["sample", "steps=few"],
        ["train", "pth=ot"],
        ["train", "lr=0.5", "optimizer.lr=0.7"],
        ["sample", "sampler=em", "sigma=0.5", "sampler.diffusion.sigma=0.7"],
    )
    text = f"""import sys; from diffsde.cli.main import main
for words in {cheap!r}:
    print(main(words), 'jax' in sys.modules)"""
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["2 False"] * len(cheap)
    late = {"matplotlib", "orbax", "flax", "scipy.optimize", "PIL", "rich"}
    assert not imported("explain", "sampler=em") & late
    exact = "run=oracle dataset=gmm path=ot steps=2 n=20 pictures=none threads=1".split()
    assert not imported("sample", *exact) & {"matplotlib", "orbax", "flax", "PIL"}


def test_an_image_run_whose_samples_cannot_be_drawn_is_still_whole(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A raw noise predictor on ot is infinite at t = 0, which only its picture needs."""
    words = "dataset=digits net=mlp net.widths=[8] precondition=false objective=noise steps=2 hydra.run.dir=run"
    assert main(["train", *words.split()]) == 0
    assert "no samples.png" in "".join(capsys.readouterr())
    assert (here / "run" / "summary.json").exists() and not (here / "run" / "plots" / "samples.png").exists()


@pytest.mark.slow
def test_labels_and_guidance_from_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = "dataset=gmm dataset.conditional=true net.widths=[8] steps=2"
    assert main(["train", *base.split(), "label_dropout=0", "seed=1", "hydra.run.dir=told"]) == 0
    assert main(["train", *base.split(), "hydra.run.dir=both"]) == 0
    words = "dataset=gmm objective=classifier net.widths=[8] steps=2 hydra.run.dir=outputs/train/a/classifier"
    assert main(["train", *words.split()]) == 0
    words = "dataset=8gaussians net.widths=[8] steps=2 hydra.run.dir=eight"
    assert main(["train", *words.split()]) == 0
    drawn = "sample n=7 steps=3 plots=false"
    for words in ("run=both guide=outputs/train/a/classifier", "run=both"):
        out = f"hydra.run.dir=drawn{len(words)}"
        assert main([*drawn.split(), *words.split(), "guidance=2", "labels=[3,0]", out]) == 0
        found = np.load(here / f"drawn{len(words)}" / "samples.npz")
        np.testing.assert_array_equal(found["y"], [3, 0, 3, 0, 3, 0, 3])
    for name, words in (("worse", "run=both guide=told guidance=1"), ("plain", "run=both"), ("other", "run=told")):
        assert main([*drawn.split(), *words.split(), "labels=[3,0]", f"hydra.run.dir={name}"]) == 0
    worse, plain, other = (np.load(here / name / "samples.npz")["x"] for name in ("worse", "plain", "other"))
    np.testing.assert_allclose(worse, plain, rtol=1e-4, atol=1e-4)  # w = 1 leaves nothing of the guide
    assert np.abs(other - plain).max() > 1e-2
    np.save(here / "points.npy", np.random.default_rng(0).normal(size=(20, 2)))
    np.save(here / "y.npy", np.arange(20) % 2)
    capsys.readouterr()
    refused = {
        "run=both guide=told guidance=2": "guide: 'told' was trained with label_dropout=0",
        "run=oracle dataset=gmm path=vp labels=[1] guide=both guidance=2": "another path than the field",
        "run=oracle dataset=mixture dataset.means=[[-1.0],[2.0]] dataset.stds=[0.3,0.5] path=ot labels=[1] guide=both"
        " guidance=2": "is of points of shape (2,), the field of (1,)",
        "run=oracle dataset=array dataset.file=points.npy dataset.labels=y.npy dataset.standardise=false path=ot labels=[4] guidance=2"
        " guide=outputs/train/a/classifier": "knows 11 labels, the field 2",
        "run=both labels=[11]": "they are 0 to 10",
        "run=both guidance=2": "say which",
        "run=told": "label_dropout=0",
        "run=told labels=[1] guidance=2": "label_dropout=0",
        "run=outputs/train/a/classifier": "is a classifier",
        "run=latest": "no trained run",
        "run=eight labels=[1] guide=outputs/train/a/classifier guidance=2": "knows 11 labels, the field 8",
        "run=both guide=both guide_checkpoint=best guidance=2": "guide_checkpoint=best needs",
    }
    for words, why in refused.items():
        assert main([*drawn.split(), *words.split()]) == 2, words
        error = capsys.readouterr().err
        assert why in error and error.count("\n") == 1, words


def test_programs_are_kept_where_and_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process too, which has opened its cache at its first program."""
    before = jax.config.jax_compilation_cache_dir

    def compiles(x: float) -> None:
        jax.jit(lambda y: y * x + 1).lower(2.0).compile()  # a constant of its own: another program

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    try:
        for cache, where, folder in ((True, "given", "given"), (True, None, "jax"), (False, None, None)):
            machine.set_compilation_cache(cache, where and str(tmp_path / where))
            counts = {each: len(list((tmp_path / each).glob("*"))) for each in ("given", "jax")}
            compiles(float(len(str(where))) + 0.1234)
            now = {each: len(list((tmp_path / each).glob("*"))) for each in ("given", "jax")}
            assert {each for each in now if now[each] > counts[each]} == ({folder} if folder else set())
    finally:
        machine.set_compilation_cache(True, before)
