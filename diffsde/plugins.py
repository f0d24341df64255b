"""Parts of the user's own: choices that plugins=[...] or diffsde.register adds to a group, under the user's own words.

A file that someone else wrote, such as a run's config.json, may name a plugin but never loads one.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from diffsde.errors import UserError, first_line, suggestion
from diffsde.state import STATE
from diffsde.terminal import DEBUG, printable

GROUP_OF = {
    "predictor": "sampler",
    "source": "dataset",
    "drawn_from": "dataset",
}  # keys that hold a choice of another group


class Part(NamedTuple):
    """A choice of the user's own: its class, and the plugin that has it, as plugins= names it."""

    cls: type
    plugin: str


def parts(group: str) -> dict[str, Any]:
    """The user's own choices of a group, by their words."""
    return {word: part.cls for (name, word), part in STATE.parts.items() if name == group}


def words() -> list[tuple[str, str]]:
    """(group, word) of every choice of the user's own."""
    return list(STATE.parts)


def is_own(group: str, word: str) -> bool:
    """Whether a choice of a group is the user's own."""
    return (GROUP_OF.get(group, group), word) in STATE.parts


def add(group: str, word: str, cls: type) -> None:
    """Add a class as a choice of a group. Raises UserError where another class has the word; one defined again is replaced."""
    before = STATE.parts.get((group, word))
    if before is not None and identity(before.cls) != identity(cls):
        raise UserError(
            f"{group} '{word}' is {before.cls.__name__} of plugin {before.plugin} already; give one of them another word"
        )
    STATE.parts[group, word] = Part(cls, STATE.plugins.get("loading") or cls.__module__)


def identity(cls: type) -> tuple[str, str]:
    """Where a class is defined: equal for one that a notebook's cell, or a file, defines again."""
    return cls.__module__, cls.__qualname__


def load(names: Iterable[str]) -> None:
    """Import plugins, each an importable module or a file next to you, once. Raises UserError for one that is no plugin."""
    for name in names:
        file = file_of(name)
        key = name if file is None else str(file)
        stamp = None if file is None else file.stat().st_mtime_ns
        if key in STATE.plugins and STATE.plugins[key] == stamp:
            continue
        before = dict(STATE.parts)
        STATE.plugins["loading"] = name
        try:
            module = imported(name) if file is None else executed(file)
        except BaseException as error:
            STATE.parts = before
            if isinstance(error, KeyboardInterrupt):
                raise
            raise UserError(f"plugins: '{name}'{where_in(error, file)} {reason(error)}") from error
        finally:
            del STATE.plugins["loading"]
        if STATE.parts == before and not any(part.cls.__module__ == module.__name__ for part in before.values()):
            raise UserError(f"plugins: '{name}' adds nothing; say in it diffsde.register('path', 'my_path', MyPath)")
        STATE.plugins[key] = stamp


@contextlib.contextmanager
def as_user_errors() -> Iterator[None]:
    """A context in which an error out of a plugin's code is a UserError: which of its functions, at which line, and what."""
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or (place := place_in_plugin(error)) is None:
            raise
        raise UserError(f"plugins: {place}: {reason(error)} ({DEBUG}=1 shows the traceback)") from error


def place_in_plugin(error: BaseException) -> str | None:
    """'Class.method, my_parts.py line N' of the innermost call in a plugin's code; None where no plugin was called."""
    files = {key for key in STATE.plugins if key.endswith(".py")}
    modules = {part.cls.__module__ for part in STATE.parts.values()} | (STATE.plugins.keys() - files)
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__"))
        if frame.f_code.co_filename in files or module in modules or module.partition(".")[0] in modules:
            name = frame.f_code.co_qualname.replace(".<locals>", "")
            found = f"{name}, {os.path.basename(frame.f_code.co_filename)} line {line}"
    return found


def file_of(name: str) -> Path | None:
    """The file that a plugin's name means, absolute; None: it is an importable module. Raises UserError where it is neither."""
    as_path = Path(name).expanduser()
    if name.endswith(".py") or os.sep in name:
        if not as_path.is_file():
            raise UserError(f"plugins: there is no file '{name}'{suggestion(name, next_to_you(), 0)}")
        return as_path.resolve()
    beside = Path(name.replace(".", os.sep) + ".py")
    if beside.is_file():
        return beside.resolve()
    try:
        found = name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        near = suggestion(name, [file.removesuffix(".py") for file in next_to_you()], 0)
        raise UserError(f"plugins: there is neither a module '{name}' nor a file '{beside}'{near}")
    return None


def next_to_you() -> list[str]:
    """The Python files of the working directory."""
    return sorted(path.name for path in Path.cwd().glob("*.py"))


def imported(name: str) -> ModuleType:
    """The module of a name; imported again where it was before its parts were asked for."""
    if name not in sys.modules:
        return importlib.import_module(name)
    module = sys.modules[name]
    there = any(part.cls.__module__ == name for part in STATE.parts.values())
    return module if there else importlib.reload(module)


def executed(file: Path) -> ModuleType:
    """The module that a file is, under the file's name, or one like it where another module has that."""
    name = file.stem
    while name in sys.modules and getattr(sys.modules[name], "__file__", None) != str(file):
        name += "_"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # typing reads a class's annotations by its module's name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    return module


def where_in(error: BaseException, file: Path | None) -> str:
    """' line N:' of the plugin's file at which it failed; ':' where that is not known."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f" line {error.lineno}:"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return f" line {lines[-1]}:" if lines else ":"


def reason(error: BaseException) -> str:
    """What went wrong in a plugin, in a line; other errors than refusals with their type."""
    said = first_line(error.msg if isinstance(error, SyntaxError) else error)
    return said if isinstance(error, UserError) else f"{type(error).__name__}: {said}"


def needed(config: Any, group: str = "") -> dict[str, list[str]]:
    """{plugin: [path=cubic, ...]} for the choices of a config that are the user's own."""
    found: dict[str, list[str]] = {}
    if isinstance(config, dict):
        part = STATE.parts.get((GROUP_OF.get(group, group), str(config.get("name"))))
        if part is not None:
            found[part.plugin] = [f"{GROUP_OF.get(group, group)}={config['name']}"]
        for key, value in config.items():
            for plugin, words in needed(value, str(key)).items():
                found[plugin] = [*found.get(plugin, []), *words]
    return found


def check_needed(asked: Any, knob: str, place: str) -> None:
    """Raise UserError where a folder's parts of plugins (`needed`, as its config.json names them) are not all there."""
    if not isinstance(asked, dict) or not all(isinstance(words, list) for words in asked.values()):
        return
    for plugin, words in asked.items():
        lacking = [word for word in map(str, words) if tuple(word.split("=", 1)) not in STATE.parts]
        if lacking:
            how = f"say plugins=[{plugin}]" if plugin != "__main__" else "register it, or say plugins=[FILE]"
            raise UserError(printable(f"{knob}: '{place}' needs {', '.join(lacking)}, of a plugin; {how} too"))
