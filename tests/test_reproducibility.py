"""The same command on the same machine gives the same bits: `diffsde rerun` of every verb, and of every way to train and to sample."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffsde.cli.job import VERBS
from diffsde.cli.main import main
from diffsde.cli.rerun import rerun

SMALL = "net.widths=[8] batch_size=16 steps=4 log_every=2 pictures=none"
# NAME VERB WORDS; those after a blank line are slow
LINES = f"""
train train dataset=moons {SMALL} posterior_points=0
sample sample run=train sampler=em n=20 steps=3 seed=1 pictures=none
evaluate evaluate samples=sample metrics=[w2,mmd]
simulate simulate process=ou n=20 steps=10 seed=2 pictures=none
show show what=field dataset=gmm path=ot

moons train dataset=moons path=vp objective=noise {SMALL} best=true checkpoint_every=2
targets train dataset=gmm objective=score {SMALL} objective.target=marginal
digits train dataset=digits dataset.conditional=true net=mixer net.width=16 net.depth=1 batch_size=8 steps=2 pictures=none
classifier train dataset=digits objective=classifier net=mixer net.width=16 net.depth=1 batch_size=8 steps=2 pictures=none
fixed train dataset=fixed dataset.n=500 {SMALL}
drifting train dataset=drifting {SMALL}
coupled train source=8gaussians dataset=moons path=icfm coupling=ot {SMALL}
both train source=8gaussians dataset=moons path=bridge objective=cfm+score coupling=sinkhorn {SMALL}
reflow train dataset=moons path=ot coupling=run coupling.run=train coupling.pairs=200 {SMALL}
iterated train source=gaussian dataset=moons path=bridge objective=cfm+score coupling=iterated coupling.pairs=200 coupling.rounds=2 {SMALL}
map train dataset=moons objective=meanflow {SMALL}
distilled train dataset=moons objective=lagrangian teacher=train {SMALL}
cnf train dataset=moons objective=likelihood {SMALL}
spline train dataset=moons net=spline objective=likelihood batch_size=16 steps=4 pictures=none
longer train init=train {SMALL.replace("steps=4", "steps=6")}
ode sample run=moons checkpoint=best sampler=adaptive grid.end=0.999 n=20 pictures=none
best sample run=train sampler=best steps=8 n=20 pictures=none
tuned sample run=train sampler=heun grid=optimised steps=4 n=20 pictures=none
guided sample run=digits labels=all guidance=2 n=10 steps=3 pictures=none
classified sample run=digits guide=classifier labels=all guidance=2 n=10 steps=3 pictures=none
inverse sample run=oracle dataset=gmm path=ot measurement=linear measurement.matrix=[[1,0]] posterior=exact n=16 steps=5 pictures=none
between sample run=both sampler=em n=20 steps=5 pictures=none
jumps sample run=map sampler=flow_map steps=2 n=20 pictures=none
flow sample run=spline n=20 pictures=none
saved sample run=oracle dataset=gmm path=vp sampler=dpmpp_2m_sde n=20 steps=8 save_every=2 pictures=none
likelihood evaluate run=train n=100 n_test=20 metrics=[likelihood,budget,c2st]
wells simulate process=double_well n=10 steps=20 pictures=none
film show what=noising dataset=gmm path=ot
"""
QUICK, SLOW = ([line.split(" ", 1)[0] for line in part.strip().splitlines()] for part in LINES.split("\n\n"))
COMMANDS = dict(line.split(" ", 1) for line in LINES.splitlines() if line)
# Keys whose value is the folder of another command.
USED = ("run", "samples", "init", "teacher", "guide", "coupling.run")


def make(name: str) -> None:
    """Run a command, unless its folder is there, after those whose folders it reads."""
    if Path(name).exists():
        return
    for key, _, value in (word.partition("=") for word in COMMANDS[name].split()):
        if key in USED and value in COMMANDS:
            make(value)
    assert main([*COMMANDS[name].split(), f"hydra.run.dir={name}"]) == 0, COMMANDS[name]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands of each verb wrote."""
    where = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        for name in QUICK:
            make(name)
    return where


def test_every_verb_is_repeated_to_the_bit(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """But for `explain`, which writes nothing."""
    monkeypatch.chdir(place)
    for verb in set(VERBS) - {"explain"}:
        found = rerun([verb], tmp_path / verb)
        assert found.same and len(found.parts) > 2, (verb, [part for part in found.parts if not part.same])


def test_the_same_words_compare_runs_alike(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(place)
    for verb in ("compare", "report"):
        for out in ("one", "two"):
            assert main([verb, "sample", "evaluate", "train", f"out={tmp_path / verb / out}"]) == 0
        one, two = (sorted((tmp_path / verb / out).iterdir()) for out in ("one", "two"))
        assert [path.name for path in one] == [path.name for path in two] and one
        for before, after in zip(one, two, strict=True):
            assert before.read_bytes().replace(b"/one", b"/two") == after.read_bytes(), before


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_way_to_train_and_to_sample_is_repeated_to_the_bit(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(place)
    make(name)
    found = rerun([name], tmp_path / name)
    assert found.same, ([part for part in found.parts if not part.same], found.reasons)
