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
from typing import Annotated, NamedTuple, get_type_hints

from openmae.errors import UserError
from openmae.recipes import Recipe
from openmae.recipes.constraints import at_least
from openmae.recipes.conversion import convert, flag
from openmae.training.processes.launching import require_startable
from openmae.training.processes.stopping import STOPPED

SCRIPT = "slurm.sh"
# Slurm's signal comes so long before the time limit: enough for one step and one checkpoint.
NOTICE_SECONDS = 120
# How long the other processes may live after the first one has ended.
WAIT_SECONDS = 60
JOB_NUMBER = re.compile(r"(\d+)(?:;(\S+))?")
# Slurm takes a job with one of these names for a terminal session, and Lightning then starts processes of its own.
SESSION_NAMES = ("bash", "interactive")

SETUP = """\
# `openmae slurm` wrote this file, and writes it anew each time. To submit it as it is:
#   sbatch {file}
set -e
# Variables that torchrun or another job has left in the submitting shell would mislead every process.
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
    """A job's share of the cluster, beside the recipe's --nodes and --devices."""

    partition: str | None = None
    """Partition to queue in; the cluster's default when not given."""
    account: str | None = None
    """Account that pays."""
    qos: str | None = None
    """Quality of service."""
    time: str | None = None
    """Time limit as 72:00:00 or 3-00:00:00; the partition's when not given. A run that needs longer is requeued."""
    cpus_per_device: Annotated[int, at_least(1)] = 8
    """Processor cores for each device; all but one of them, and 8 at most, decode images."""
    memory: str | None = None
    """Memory of each machine, such as 400G; the partition's default when not given."""
    setup: str | None = None
    """Lines of shell to run first, such as "module load cuda; export NCCL_SOCKET_IFNAME=ib0"."""

    def __post_init__(self) -> None:
        for name, declared in get_type_hints(type(self), include_extras=True).items():
            object.__setattr__(self, name, convert(flag(name), getattr(self, name), declared))


class SubmittedJob(NamedTuple):
    """A job that Slurm has accepted."""

    number: str
    cluster: str
    """The flag that Slurm's commands need where it manages several clusters, with a blank behind it; else empty."""


class Submission(NamedTuple):
    """The script of a job, and the job itself if the script was submitted."""

    script: Path
    job: SubmittedJob | None


def submit_training(
    recipe: Recipe, run: Path, arguments: Sequence[str], *, allocation: Allocation, dry_run: bool = False
) -> Submission:
    """Submit a training to Slurm: openmae slurm --partition gpu --time 72:00:00 pretrain RECIPE …

    An example: openmae slurm --partition gpu --time 72:00:00 pretrain vit-b16-800e --data photos --out runs/photos
    --nodes 4 --devices 8

    From "pretrain" on (or linear, finetune) it is that verb's own command, checked here and now. Its --nodes, and its
    --devices of each machine, are what the job asks for.

    The script is written to RUN/slurm.sh, and its log to RUN/slurm-JOB.log. Two minutes before the time limit the
    training saves and the job is requeued, to continue where it stopped. RUN, the data and this Python environment
    must be at the same paths on every machine. Needs the extra: pip install 'openmae[slurm]'.

    Args:
        recipe: The recipe of the training.
        run: Its run folder.
        arguments: Everything behind the name of the stage, as the script repeats it.
        allocation: The job's share of the cluster, beside the recipe's --nodes and --devices.
        dry_run: Write the script and print it, but do not submit it.
    """
    require_startable(recipe)
    script = write_script(run, recipe, arguments, allocation)
    return Submission(script, None if dry_run else submit(script))


def split_at_stage(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The flags of `openmae slurm` itself, and the command behind them."""
    place = 0
    while place < len(words) and words[place].startswith("-"):
        alone = words[place].replace("_", "-") in ("--dry-run", "--no-dry-run", "--help", "-h")
        place += 1 if alone or "=" in words[place] else 2
    return list(words[:place]), list(words[place:])


def write_script(run: Path, recipe: Recipe, arguments: Sequence[str], allocation: Allocation) -> Path:
    """Write the script for `openmae STAGE *arguments`, whose run folder is `run`; returns where.

    Raises:
        UserError: when the folder cannot be written, or a value cannot be given to Slurm.
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
        _require_quotable(str(value))
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
        # submitit's executors write their scripts with it; the version is bounded because the name is not public.
        from submitit.slurm.slurm import _make_sbatch_string
    except ImportError as error:
        raise UserError("a job's script is written by submitit; pip install 'openmae[slurm]'") from error
    return _make_sbatch_string


def _require_quotable(value: str) -> None:
    """submitit quotes as a shell does. sbatch reads that the same way, but for a backslash, and one line at a time."""
    if "\\" in value:
        raise UserError(f"{value!r} cannot be given to Slurm, for it has a backslash; use another name")
    if not value.isprintable():
        raise UserError(f"{value!r} cannot be given to Slurm, for it has a line break or the like; use another name")


def submit(file: Path) -> SubmittedJob:
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
    complaint = " ".join(answer.stderr.split())
    if answer.returncode != 0:
        reason = complaint or f"exit code {answer.returncode}"
        raise UserError(f"sbatch refused {file} ({reason}); change the flags before `pretrain`, or that file")
    print(answer.stderr, end="", file=sys.stderr)  # the cluster's messages to its users
    job = JOB_NUMBER.fullmatch((answer.stdout.split() or [""])[-1])
    if job is None:
        raise UserError(f"sbatch took {file} but named no job ({answer.stdout!r}); `squeue --me` shows whether it did")
    return SubmittedJob(job[1], f"--clusters={shlex.quote(job[2])} " if job[2] else "")
