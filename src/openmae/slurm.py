"""`openmae slurm`: a training command as an sbatch script in its run folder, and its submission.

submitit writes it (extra `slurm`). Its executors would submit a pickled function; this script is plain text that runs a
command, to be read, changed and submitted by hand as well. It needs nothing on the cluster but Slurm and this Python
environment at the same path on every machine.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.training.processes.stopping import STOPPED

SCRIPT = "slurm.sh"
# How long before the time limit Slurm says so: enough for one step and one checkpoint.
NOTICE_SECONDS = 120
# How long the other processes may live after the first one has ended.
WAIT_SECONDS = 60
JOB = re.compile(r"(\d+)(?:;(\S+))?")
# Slurm takes a job with one of these names for a terminal session, and Lightning then starts processes of its own.
SESSION_NAMES = ("bash", "interactive")

SETUP = """\
# `openmae slurm` wrote this file, and writes it anew each time. To submit it as it is:
#   sbatch {file}
set -e
# What torchrun or another job has left in the shell that submitted would mislead every process.
unset MASTER_ADDR MASTER_PORT WORLD_SIZE RANK LOCAL_RANK LOCAL_WORLD_SIZE TORCHELASTIC_RUN_ID
{setup}"""
COMMAND = """\
code=0
# When one process ends, the others have {wait} seconds: none waits forever for one that crashed, and none is killed for
# having stopped in good order a moment later. srun does not take --cpus-per-task from the job by itself (Slurm 22.05).
srun --kill-on-bad-exit=0 --wait={wait} --cpus-per-task={cpus} \\
  {command} || code=$?"""
TEARDOWN = """\
if [ "$code" -eq {stopped} ]; then  # stopped and saved: the same job continues from its last checkpoint
  scontrol requeue "$SLURM_JOB_ID" || echo "Slurm does not requeue this job; to continue, submit it again" >&2
fi
exit "$code"
"""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """What to ask Slurm for, beside the recipe's --nodes and --devices."""

    partition: str | None = None
    """Partition to queue in; the cluster's default when not given."""
    account: str | None = None
    """Account that pays."""
    qos: str | None = None
    """Quality of service."""
    time: str | None = None
    """Time limit as 72:00:00 or 3-00:00:00; the partition's when not given. A run that needs longer is requeued."""
    cpus_per_device: int = 8
    """Processor cores for each device; all but one of them, and 8 at most, decode images."""
    memory: str | None = None
    """Memory of each machine, such as 400G; the partition's default when not given."""
    setup: str | None = None
    """Lines of shell to run first, such as "module load cuda; export NCCL_SOCKET_IFNAME=ib0"."""

    def __post_init__(self) -> None:
        if self.cpus_per_device < 1:
            raise UserError(f"--cpus-per-device must be at least 1, not {self.cpus_per_device}")


class Job(NamedTuple):
    """A submitted job."""

    number: str
    cluster: str
    """The flag that Slurm's commands need where it manages several clusters, with a blank behind it; else empty."""


def write_script(run: Path, recipe: Recipe, arguments: Sequence[str], allocation: Allocation) -> Path:
    """Write the script for `openmae STAGE *arguments`, whose run folder is `run`; returns where.

    Raises:
        UserError: when the folder cannot be written, or something cannot be said to Slurm.
    """
    file = run.absolute() / SCRIPT
    text = render(file, recipe, arguments, allocation)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", errors="surrogateescape")  # arguments may be any bytes
    except OSError as error:
        raise UserError(f"cannot write {file} ({error.strerror}); give --out a folder that you may write") from error
    return file


def render(file: Path, recipe: Recipe, arguments: Sequence[str], allocation: Allocation) -> str:
    """The script that is to lie at `file`, in the run folder."""
    sbatch_string = _submitit()
    run = file.parent
    options = {
        "job_name": f"openmae-{run.name}" if run.name in SESSION_NAMES else run.name,
        "nodes": recipe.nodes,
        "ntasks_per_node": recipe.devices,
        "gpus_per_node": recipe.devices,
        "cpus_per_task": allocation.cpus_per_device,
        "mem": allocation.memory,
        "time": allocation.time,
        "partition": allocation.partition,
        "account": allocation.account,
        "qos": allocation.qos,
        "wckey": None,  # submitit's own is unknown to a cluster that accounts by them
    }
    more = {
        "chdir": Path.cwd(),  # arguments may hold relative paths
        "output": f"{str(run).replace('%', '%%')}/slurm-%j.log",
        "signal": f"USR1@{NOTICE_SECONDS}",
        "requeue": True,
    }
    for value in (*options.values(), *more.values()):
        _require_sayable(str(value))
    command = shlex.join([sys.executable, "-m", "openmae.cli", recipe.stage, *arguments])
    return sbatch_string(
        command=COMMAND.format(wait=WAIT_SECONDS, cpus=allocation.cpus_per_device, command=command),
        folder=run,
        setup=[SETUP.format(file=shlex.quote(str(file)), setup=allocation.setup or "")],
        teardown=[TEARDOWN.format(stopped=STOPPED)],
        stderr_to_stdout=True,
        use_srun=False,  # it takes one log for each process, and no notice of how the training ended
        additional_parameters=more,
        **options,
    )


def _submitit() -> Callable[..., str]:
    try:
        # What its executors write their scripts with; the version is bounded because the name is not public.
        from submitit.slurm.slurm import _make_sbatch_string
    except ImportError as error:
        raise UserError("a job's script is written by submitit; pip install 'openmae[slurm]'") from error
    return _make_sbatch_string


def _require_sayable(value: str) -> None:
    """submitit quotes as a shell does. sbatch reads that the same way, but for a backslash, and one line at a time."""
    if "\\" in value:
        raise UserError(f"{value!r} cannot be said to Slurm, for it has a backslash; use another name")
    if not value.isprintable():
        raise UserError(f"{value!r} cannot be said to Slurm, for it has a line break or the like; use another name")


def submit(file: Path) -> Job:
    """Hand the script to sbatch.

    Raises:
        UserError: when there is no sbatch, or it refuses; the message has its reason.
    """
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise UserError(f"this machine has no sbatch; on a machine that has, run: sbatch {shlex.quote(str(file))}")
    answer = subprocess.run(  # noqa: S603  # the user's own sbatch
        [sbatch, "--parsable", str(file)], capture_output=True, text=True, errors="replace", check=False
    )
    said = " ".join(answer.stderr.split())
    if answer.returncode != 0:
        reason = said or f"exit code {answer.returncode}"
        raise UserError(f"sbatch refused {file} ({reason}); change the flags before `pretrain`, or that file")
    print(answer.stderr, end="", file=sys.stderr)  # what the cluster wants its users to know
    job = JOB.fullmatch((answer.stdout.split() or [""])[-1])
    if job is None:
        raise UserError(f"sbatch took {file} but named no job ({answer.stdout!r}); `squeue --me` shows whether it did")
    return Job(job[1], f"--clusters={shlex.quote(job[2])} " if job[2] else "")
