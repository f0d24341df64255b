"""One process of fuzz_configs.py: runs command lines in this process, one after another, and says of each what it did.

    python scripts/fuzz_worker.py FOLDER      # a command as a JSON list per line of stdin; what it did as JSON per line of stdout

Every command runs in FOLDER by diffsde's own main(), with all that is printed kept, warnings of Python and of C included.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # compiled quickly
MEMORY = 10 * 2**30  # bytes of data that a command may take, on a machine that others use too


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.chdir(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.environ |= {"XDG_CACHE_HOME": os.path.abspath("cache"), "MPLBACKEND": "agg", "WANDB_MODE": "offline"}
    os.environ.setdefault("XLA_FLAGS", FLAGS)
    warnings.simplefilter("always")
    for line in sys.stdin:
        answers.write(json.dumps(tried(json.loads(line))) + "\n")
        answers.flush()


def tried(words: list[str]) -> dict[str, Any]:
    """What a command did: its status, what it said on stderr, its seconds, and what is wrong with what it left."""
    before = entries()
    begin = time.perf_counter()
    status, out, err = spoken(words)
    seconds = time.perf_counter() - begin
    new = sorted(entries() - before)
    faults = [*faults_of_words(status, err), *faults_of_files(status, new), *changes(status, words, new)]
    found = {
        "status": status,
        "stderr": err[-4000:],
        "stdout": out[-1500:],
        "seconds": round(seconds, 2),
        "faults": faults,
    }
    for place in new:
        if not place.startswith("outputs/keep") and Path(place).parts[0] == "outputs":
            shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree("outputs", ignore_errors=True)
    return found


def spoken(words: list[str]) -> tuple[int, str, str]:
    """The status of a command, and all that it wrote to the descriptors 1 and 2; status 99: an exception that main() let out."""
    from diffsde.cli.main import main as diffsde
    from diffsde.state import STATE

    STATE.machine = None
    STATE.parts.clear()
    STATE.plugins.clear()
    kept = [os.dup(number) for number in (1, 2)]
    files = [open(os.open(".", os.O_TMPFILE | os.O_RDWR), "w+", errors="replace") for _ in kept]  # noqa: SIM115
    for number, file in enumerate(files, 1):
        os.dup2(file.fileno(), number)
    try:
        status = diffsde(words)
    except BaseException:
        status = 99
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        said = []
        for number, file in zip((1, 2), files, strict=True):
            os.dup2(kept[number - 1], number)
            os.close(kept[number - 1])
            file.seek(0)
            said.append(file.read())
            file.close()
    return status, said[0], said[1]


def entries() -> set[str]:
    """All files and folders here but the cache of programs."""
    found = set()
    for place, folders, files in os.walk("."):
        if place == ".":
            folders[:] = [each for each in folders if each not in ("cache", "runs", "images")]
        found |= {os.path.relpath(os.path.join(place, each)) for each in (*folders, *files)}
    return found


def faults_of_words(status: int, err: str) -> list[str]:
    """Faults in what was said."""
    lines = [line for line in err.splitlines() if line.strip()]
    faults = []
    if status == 99 or "Traceback (most recent" in err:
        faults.append("traceback")
    elif status not in (0, 2):
        faults.append(f"status {status}")
    ours = [line for line in lines if line.startswith("diffsde: ")]
    if status == 2 and len(ours) != 1:
        faults.append(f"{len(ours)} lines of refusal")
    if status == 2 and ours and len(ours[-1]) > 1000:
        faults.append("a long line")
    strange = [line for line in lines if not line.startswith("diffsde: ") and not is_ours(line)]
    if "traceback" not in faults and strange:
        faults.append("strange lines")
    if any(
        word in err for word in ("there are ;", "one of ;", "there are )", "choose one of  ")
    ) or err.rstrip().endswith("there are"):
        faults.append("an empty list")
    return faults


def is_ours(line: str) -> bool:
    """Whether a line of stderr is one of diffsde's own: a warning, or a word's other name."""
    return line.startswith(("warning: ", "note: ")) or " is called " in line


def faults_of_files(status: int, new: list[str]) -> list[str]:
    """Faults in what was left: anything by a refusal but the folder of a run that had begun, numbers that are not finite."""
    faults = []
    files = [Path(each) for each in new if Path(each).is_file()]
    if status == 2:
        left = [each for each in files if each.name not in (".hydra",)]
        begun = {each.parent for each in files if each.name == "config.json"}
        if left and not begun:
            faults.append("left by a refusal: " + " ".join(map(str, left[:3])))
        if not left and any(Path(each).exists() for each in new):
            faults.append("empty folders left")
    faults += [f"outside outputs: {each}" for each in new if Path(each).parts[0] not in ("outputs",)][:2]
    faults += [
        f"temporary file: {each}"
        for each in files
        if each.name.startswith(".") and each.name.rpartition(".")[2].isdigit()
    ]
    for file in files:
        of_a_path = file.name == "show.npz"  # whose signal-to-noise is infinite at t = 1
        if "checkpoints" not in file.parts and not of_a_path and not_finite(file):
            faults.append(f"not finite: {file.name}")
        faults += [f"no number: {key} of {file.name}" for key in without_value(file)]
    return faults


def not_finite(file: Path) -> bool:
    """Whether a file of figures or of arrays holds a number that is not finite."""
    if file.suffix in (".npz", ".npy"):
        loaded = np.load(file)
        arrays = loaded.values() if hasattr(loaded, "values") else [loaded]
        return any(each.dtype.kind == "f" and not np.isfinite(each).all() for each in arrays)
    if file.suffix in (".json", ".jsonl"):
        return any(word in file.read_text() for word in ("NaN", "Infinity"))
    return False


def without_value(file: Path) -> list[str]:
    """The figures of a summary.json that have no number, as one that was not finite has none."""
    found = json.loads(file.read_text()) if file.name == "summary.json" else {}
    return [key for key, each in found.items() if isinstance(each, dict) and each.get("value", 0) is None]


def changes(status: int, words: list[str], new: list[str]) -> list[str]:
    """Typed numbers and words that config.json says otherwise."""
    configs = [Path(each) for each in new if Path(each).name == "config.json"]
    if status != 0 or not configs:
        return []
    config = json.loads(configs[0].read_text())["config"]
    found = []
    for word in words[1:]:
        key, _, said = word.partition("=")
        if key == "experiment":  # a file of words, which config.json has in its place
            continue
        kept, typed = at(config, key), as_typed(said)
        if isinstance(kept, dict):
            kept = kept.get("name")
        if not same(kept, typed, said):
            found.append(f"silent change: {word} is {str(kept)[:60]!r}")
    return found


def at(config: Any, key: str) -> Any:
    """A config's value at a dotted key."""
    key = {"diffusion": "sampler.diffusion"}.get(key, key) if key not in config else key
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def as_typed(text: str) -> object:
    """A typed value as YAML reads it, where that is simple; else the text."""
    import yaml

    try:
        return json.loads(text)
    except ValueError:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text


def same(kept: Any, typed: Any, said: str) -> bool:
    """Whether a config's value is what was typed; optimal is memoryless's other name."""
    if isinstance(kept, list) and ",".join(map(str, kept)) == said:
        return True
    if isinstance(kept, list) and not isinstance(typed, list):
        return len(kept) == 1 and same(kept[0], typed, said)
    if isinstance(kept, list):
        return len(kept) == len(typed) and all(same(one, two, said) for one, two in zip(kept, typed, strict=True))
    try:
        return float(kept) == float(typed)
    except (TypeError, ValueError):
        return (
            kept == typed
            or str(kept) == said
            or said in ("latest", "null", "", "normal", "auto", "optimal")
            or said in str(kept)
        )


if __name__ == "__main__":
    main()
