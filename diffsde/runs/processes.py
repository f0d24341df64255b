"""Several processes, perhaps on several hosts, as one run: which one writes, and how values are shared among them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from diffsde.errors import UserError, first_line
from diffsde.state import STATE

T = TypeVar("T")
LONGEST_PATH = 4096  # bytes
WAIT = 300  # seconds to wait until all processes have joined


def join(coordinator: str | None, processes: int | None, rank: int | None) -> None:
    """Join the run's other processes: started by SLURM, or `processes` of them, this one number `rank`, at `coordinator`.

    Raises UserError where the three do not fit together, or the other processes cannot be reached.
    """
    if coordinator is None:
        if processes is not None or rank is not None:
            raise UserError("processes= and rank= need coordinator=host:port, or coordinator=slurm alone")
    elif coordinator == "slurm":
        if "SLURM_PROCID" not in os.environ:
            raise UserError("coordinator=slurm: this is no step of a SLURM job; start it by srun, or give host:port")
    else:
        if ":" not in coordinator or processes is None or rank is None:
            raise UserError(
                f"coordinator={coordinator} needs host:port, processes= (how many) and rank= (which of them, from 0)"
            )
        if not 0 <= rank < processes:
            raise UserError(f"rank is {rank}; of processes={processes} it must be one of 0 to {processes - 1}")
    if STATE.joined is not None:
        if STATE.joined != (coordinator, processes, rank):
            raise UserError("coordinator, processes and rank are of the whole command; they cannot be swept over")
        return
    STATE.joined = (coordinator, processes, rank)
    if coordinator == "slurm":
        _initialize(cluster_detection_method="slurm")
    elif coordinator is not None:
        print(f"process {rank} of {processes}: joining the others at {coordinator} ({WAIT} s at most)", flush=True)
        _initialize(coordinator_address=coordinator, num_processes=processes, process_id=rank)


def _initialize(**options: object) -> None:
    import jax

    try:
        jax.distributed.initialize(initialization_timeout=WAIT, **options)  # type: ignore[arg-type]
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"coordinator: the processes could not join ({first_line(error)[:160]})") from error
    STATE.rank = jax.process_index()


def is_main_process() -> bool:
    """Whether this process is the one that writes files and prints."""
    return STATE.rank == 0


def is_distributed() -> bool:
    """Whether the run has more than one process."""
    if STATE.joined is None or STATE.joined[0] is None:
        return False
    import jax

    return jax.process_count() > 1


def one_process_at_a_time(tree: T) -> T:
    """The arrays, waited for if there are several processes: two CPU programs at once would mix up their messages."""
    if not is_distributed():
        return tree
    import jax

    return jax.block_until_ready(tree)


def all_reduce_max(*values: int) -> tuple[int, ...]:
    """The maximum of each value over all processes, so that all processes take the same decision."""
    if not is_distributed():
        return values
    import numpy as np
    from jax.experimental import multihost_utils

    return tuple(int(value) for value in np.max(multihost_utils.process_allgather(np.array(values)), axis=0))


def all_gather(tree: T) -> T:
    """The tree with arrays that are sharded over several processes gathered whole on each; other leaves unchanged."""
    if not is_distributed():
        return tree
    import jax
    from jax.experimental import multihost_utils

    def whole(leaf: Any) -> Any:
        if getattr(leaf, "is_fully_addressable", True):
            return leaf
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(whole, tree)


def broadcast_path(folder: Path) -> Path:
    """The first process's `folder`, on all processes."""
    if not is_distributed():
        return folder
    import numpy as np
    from jax.experimental import multihost_utils

    text = str(folder.resolve()).encode()
    padded = np.frombuffer(text.ljust(LONGEST_PATH, b"\0"), np.uint8)
    return Path(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))).rstrip(b"\0").decode())
