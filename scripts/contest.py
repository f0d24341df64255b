"""What the benchmarks share: contestants in processes of their own that take turns on this machine, one running at a time."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

# For all; ours sets it by itself too. Without it some PyTorch processes page for a third of their time.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000"}


class Worker:
    """A process that says a line of JSON when it is ready, and one for each line that it is sent."""

    def __init__(self, name: str, words: list[str], threads: str, more: dict[str, str]) -> None:
        self.name, self.script = name, words[0]
        settings = os.environ | more | {"NPROC": threads}  # XLA reads NPROC; PyTorch is told by set_num_threads
        self.process = subprocess.Popen(
            [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=settings
        )

    def ask(self, question: str | None = None) -> Any:
        """The next answer, to a question or to none."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin and stdout
        if question:
            print(question, file=stdin, flush=True)
        if not (line := stdout.readline()):
            sys.exit(f"{self.script}: the worker '{self.name}' stopped (its message is above)")
        return json.loads(line)


@contextmanager
def workers(
    commands: dict[str, list[str]], threads: dict[str, str], more: dict[str, str]
) -> Iterator[dict[str, Worker]]:
    """A worker for each command (a script and its words), begun at once and killed at the end. more: of the environment."""
    found = {name: Worker(name, words, threads[name], more) for name, words in commands.items()}
    try:
        yield found
    finally:
        for worker in found.values():
            worker.process.kill()
            worker.process.wait()


def machine(*packages: str) -> str:
    """One line: processor, cores, versions."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{model}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"
