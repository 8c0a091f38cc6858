"""Several processes of one machine, one a GPU, as `accelerate launch` (or torchrun) starts them, or Slurm.

Process 0 runs the job. The other processes wait for ratings and trainings, of which each takes its share;
only process 0 writes and prints.
"""

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_PATIENCE = timedelta(days=30)  # the others wait while process 0 rates documents

# Where the processes of a job meet: jobs that are on one node at one time have other numbers.
_FIRST_PORT, _PORTS = 20000, 20000


def rank() -> int:
    """The number of this process; 0 if it is the only one."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """The number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def take_place_in_slurm() -> None:
    """Be the process that Slurm says this is of its job's, which are all on one node."""
    slurm = os.environ
    if slurm.get("SLURM_NTASKS", "1") == "1":
        return
    os.environ |= {
        "RANK": slurm["SLURM_PROCID"],
        "LOCAL_RANK": slurm["SLURM_LOCALID"],
        "WORLD_SIZE": slurm["SLURM_NTASKS"],
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_FIRST_PORT + int(slurm["SLURM_JOB_ID"]) % _PORTS),
    }


def broadcast(value: Any) -> Any:
    """Process 0's value, in every process; the others wait for it."""
    if size() == 1:
        return value
    import torch.distributed

    _start()
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def wait_for_all() -> None:
    """Return when every process has called this."""
    import torch.distributed

    if size() > 1:
        torch.distributed.barrier()


def all_reduce(tensor: "Tensor") -> None:
    """Replace the tensor by its sum over all processes."""
    if size() == 1:
        return
    import torch.distributed

    torch.distributed.all_reduce(tensor)


def finish() -> None:
    """Leave the group of processes, if there is one."""
    if size() == 1:
        return
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def end() -> None:
    """The same when the job is over: process 0 lets those go that wait for work."""
    if rank() == 0:
        broadcast(None)
    finish()


def _start() -> None:
    import torch
    import torch.distributed

    if torch.distributed.is_initialized():
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
        backend = "cpu:gloo,cuda:nccl"
    torch.distributed.init_process_group(backend, timeout=_PATIENCE)
