"""A process for each device of this machine, started and supervised.

torchrun does this too, and restarts processes if asked to; this is for `openmae … --devices 8` without torchrun.
lightning-fabric's own launcher does not fit: as soon as one process ends it kills the others with SIGKILL, also those
about to save.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from openmae.errors import UserError
from openmae.recipes import Recipe, SupervisedRecipe
from openmae.training.processes.stopping import REQUESTS, STOPPED

SUPERVISOR = "OPENMAE_SUPERVISOR"  # environment variable: the number of the process that started this one
LOST = 71  # the system's EX_OSERR: a process ended because it lost another one
ANNOUNCED = "the other processes know"  # a note on an exception that need not be reported again
POLL = 0.1
GRACE = 15.0  # seconds beyond `peer_timeout` in which the others must have noticed that one of them has ended
GRACE_OF_THE_LOST = 3.0  # a process that the others lost does not end by itself


def processes_exist() -> bool:
    """Whether this is one of several processes, which `run_processes`, torchrun or Slurm has started."""
    return "LOCAL_RANK" in os.environ or _under_srun()


def process_rank() -> int:
    """The number of this process among those that were started together, before any of them has joined the others."""
    if _under_srun():
        return int(os.environ["SLURM_PROCID"])
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    per_node = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return int(os.environ.get("NODE_RANK", "0")) * per_node + int(os.environ.get("LOCAL_RANK", "0"))


def have_joined() -> bool:
    """Whether this process has joined the others of its run."""
    distributed = sys.modules.get("torch.distributed")  # no import only to find out
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _under_srun() -> bool:
    """Whether srun started this process. An interactive shell under Slurm is no job step; lightning-fabric agrees."""
    return "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def require_startable(recipe: Recipe) -> None:
    """Raise UserError for mistakes that every process would find, before any is started, maybe after days in a queue.

    Data and weights are not opened: perhaps only the compute nodes reach them, or an earlier job makes them.
    """
    from openmae.data.sampling import StepSampler

    if recipe.data is None:
        raise UserError("no images to train on; give --data behind the recipe")
    if isinstance(recipe, SupervisedRecipe) and recipe.weights is None:
        raise UserError("no weights to start from; give --weights behind the recipe")
    StepSampler(  # refuses a batch that cannot be cut into equal parts
        images=recipe.batch_size,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        first_step=0,
        last_step=0,
        repeats=getattr(recipe, "repeats", 1),
        accumulate=recipe.accumulate,
        world_size=recipe.nodes * recipe.devices,
    )


def run_processes(arguments: Sequence[str], *, devices: int, nodes: int, patience: float) -> int:
    """Run `openmae ARGUMENTS` in as many processes as this machine has devices to use, until all have ended.

    Requests to stop are passed on. When one of them fails the others are given `patience` seconds to notice.

    Args:
        arguments: of the command line.
        devices: how many processes.
        nodes: how many machines. Each runs this; MASTER_ADDR, MASTER_PORT and NODE_RANK say where the others are.
        patience: seconds, after which a process that is still there is killed.

    Returns:
        The exit code: 0 when all succeeded, STOPPED when all stopped on request, else that of the first that failed.
    """
    environment = _environment(devices, nodes)
    processes = [
        subprocess.Popen(  # noqa: S603  # this very program, with the arguments that it was given
            [sys.executable, "-m", "openmae.cli", *arguments],
            env={**environment, "LOCAL_RANK": str(rank)},
            # A session of its own: Ctrl-C then reaches only the supervisor, which passes it on, once.
            start_new_session=True,
        )
        for rank in range(devices)
    ]

    def pass_on(number: int, _frame: FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    previous = {which: signal.signal(which, pass_on) for which in REQUESTS}
    try:
        return _wait(processes, patience)
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with its loader processes, which may have been stopped too
                process.wait()
        for which, handler in previous.items():
            signal.signal(which, handler)


def _wait(processes: Sequence[subprocess.Popen[bytes]], patience: float) -> int:
    first_failure: int | None = None
    since = 0.0
    while True:
        codes = [process.poll() for process in processes]
        failures = [(rank, code) for rank, code in enumerate(codes) if code not in (None, 0, STOPPED)]
        if failures and first_failure is None:
            rank, first_failure = failures[0][0], failures[0][1] or 0
            since = time.monotonic()
            if first_failure < 0 or (rank > 0 and first_failure != LOST):  # rank 0 reports its own errors
                how = f"was ended by {signal.Signals(-first_failure).name}" if first_failure < 0 else "has failed"
                print(f"openmae: process {processes[rank].pid} (local rank {rank}) {how}", file=sys.stderr)
        if all(code == LOST for _, code in failures):
            patience = min(patience, GRACE_OF_THE_LOST) if failures else patience
        if None not in codes or (failures and time.monotonic() - since > patience):
            break
        time.sleep(POLL)
    if first_failure is not None:
        return max(first_failure, 1)
    return STOPPED if STOPPED in codes else 0


def _environment(devices: int, nodes: int) -> dict[str, str]:
    """The environment that lightning-fabric and torch read to find the other processes."""
    if nodes > 1 and not {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= set(os.environ):
        raise UserError(
            f"{nodes} machines must find each other; set MASTER_ADDR, MASTER_PORT and NODE_RANK on each, or start with "
            "torchrun or `openmae slurm`"
        )
    threads = max(1, (os.cpu_count() or 1) // devices)
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "NODE_RANK": "0",
        "OMP_NUM_THREADS": str(threads),  # else each process takes every core
        **os.environ,
        "WORLD_SIZE": str(devices * nodes),
        "LOCAL_WORLD_SIZE": str(devices),
        SUPERVISOR: str(os.getpid()),
    }


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
