"""Drawing samples of a discrete flow: the job, and its samples by one program."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.datasets import Dataset
from diffsde.datasets.scaling import Scaling
from diffsde.discrete_flow import DiscreteFlow, samples
from diffsde.errors import UserError
from diffsde.runs import machine, progress
from diffsde.runs.sample_config import SampleConfig
from diffsde.types import Array, Key


@dataclasses.dataclass
class FlowJob:
    """A job of drawing samples of a discrete flow: the config, the flow, the labels (n,) or None, and the folder `out`.

    known: whether there are data to compare with.
    """

    config: dict[str, Any]
    chosen: SampleConfig
    out: Path
    flow: DiscreteFlow
    dataset: Dataset
    origin: str
    labels: Array | None
    key: Key
    key_true: Key
    scaling: Scaling | None
    known: bool = True

    def group(self) -> Any:
        """Every job is a group of its own; those of one flow share a compiled program all the same."""
        return self.out

    @property
    def data_labels(self) -> np.ndarray | None:
        """The labels (n,) of the samples; None where there are none."""
        return None if self.labels is None else np.asarray(self.labels)


class FlowSamples(NamedTuple):
    """Samples x (n, *shape) in the model's units, and the seconds that they took: wall, CPU, compilation."""

    x: Array
    seconds: float
    cpu_seconds: float
    compiling: float


def drawn_of(job: FlowJob) -> FlowSamples:
    """The samples of a job. Raises UserError where some are not finite."""
    compiler, asked = machine.Compiler(), (job.flow, job.key, job.labels)
    with progress.working("compiling"):
        program = compiler(samples, *asked, n=job.chosen.n)
    begin = time.perf_counter(), time.process_time()
    x = jax.block_until_ready(program(*asked))
    spent = time.perf_counter() - begin[0], time.process_time() - begin[1]
    if bad := int((~jnp.isfinite(x.reshape(len(x), -1))).any(axis=1).sum()):
        raise UserError(f"{bad} of {len(x)} samples are NaN or infinite; train the flow again with a smaller lr")
    return FlowSamples(x, *spent, compiler.seconds)
