"""`openmae slurm`: the script that it writes, run by bash beside stand-ins for Slurm's commands, and its submission."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openmae import slurm
from openmae.cli import main
from openmae.recipes import PretrainRecipe
from openmae.reporting.results import show_pretraining
from openmae.training.results import PretrainResult
from openmae.verbs import VERBS, Verb


class Cluster:
    """Stand-ins for srun, scontrol and sbatch on the PATH, which note their arguments and environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("srun", "scontrol", "sbatch"):
            self.answer(name)

    def answer(self, name: str, *, out: str = "", err: str = "", code: int = 0) -> None:
        """What a command prints, and its exit code."""
        (self.folder / f"{name}.out").write_text(out)
        (self.folder / f"{name}.err").write_text(err)
        noted = self.folder / name
        noted.write_text(
            f'#!/bin/sh\nprintf \'%s\\0\' "$@" > "{noted}.arguments"\nenv -0 > "{noted}.environment"\n'
            f'cat "{noted}.out"\ncat "{noted}.err" >&2\nexit {code}\n'
        )
        noted.chmod(0o755)

    def arguments(self, name: str) -> list[str] | None:
        """What a command was called with; None when it was not called."""
        file = self.folder / f"{name}.arguments"
        return os.fsdecode(file.read_bytes()).split("\0")[:-1] if file.exists() else None

    def environment(self, name: str) -> dict[str, str]:
        lines = (self.folder / f"{name}.environment").read_text().split("\0")[:-1]
        return dict(line.split("=", 1) for line in lines)

    def run(self, script: Path) -> subprocess.CompletedProcess[str]:
        """What Slurm does with the script, but for reading the #SBATCH lines."""
        environment = {**os.environ, "SLURM_JOB_ID": "12345"}
        return subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    stand_ins = Cluster(tmp_path / "commands")
    monkeypatch.setenv("PATH", f"{stand_ins.folder}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return stand_ins


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:  # tyro's way out
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def write(*arguments: object, out: str = "runs/photos", flags: tuple[object, ...] = ()) -> Path:
    """The script for a pre-training with these arguments, which `flags` of `openmae slurm` itself precede."""
    command = ("slurm", *flags, "--dry-run", "pretrain", "fashion-mnist", "--data", "photos", "--out", out, *arguments)
    assert main([str(word) for word in command]) == 0
    return Path(out) / slurm.SCRIPT


def directives(script: Path) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_the_job_asks_for_what_recipe_and_flags_say(cluster: Cluster, tmp_path: Path) -> None:
    flags = ("--partition", "gpu", "--account=vision", "--qos", "long", "--time", "72:00:00", "--memory", "400G")
    script = write("--nodes", 4, "--devices", 8, "--batch-size", 4096, flags=(*flags, "--cpus-per-device", 12))
    assert directives(script) == {
        "job-name": "photos",
        "nodes": "4",
        "ntasks-per-node": "8",
        "gpus-per-node": "8",
        "cpus-per-task": "12",
        "mem": "400G",
        "time": "72:00:00",
        "partition": "gpu",
        "account": "vision",
        "qos": "long",
        "chdir": str(tmp_path),
        "output": f"{tmp_path}/runs/photos/slurm-%j.log",
        "open-mode": "append",
        "signal": "USR1@120",
        "requeue": "",
    }
    bare = directives(write())
    assert (bare["nodes"], bare["ntasks-per-node"], bare["cpus-per-task"]) == ("1", "1", "8")
    assert not {"mem", "time", "partition", "account", "qos"} & set(bare)


def test_every_process_gets_its_cores_and_may_outlive_the_first_one_that_ends(cluster: Cluster) -> None:
    cluster.run(write(flags=("--cpus-per-device", 5)))
    assert (cluster.arguments("srun") or [])[:3] == ["--kill-on-bad-exit=0", "--wait=60", "--cpus-per-task=5"]


@pytest.mark.parametrize(
    "word",
    [
        *("a b", "it's", 'say "hi"', "$(touch pwned)`touch pwned`$HOME", "two\nlines", "back\\slash", "*", "~", "#"),
        *("{wait}", "grün", "caf\udce9", ""),
    ],
)
def test_any_argument_reaches_the_training_as_it_is(word: str, cluster: Cluster, tmp_path: Path) -> None:
    script = write("--labels", word)
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert cluster.run(script).returncode == 0
    arguments = cluster.arguments("srun") or []
    expected = ["pretrain", "fashion-mnist", "--data", "photos", "--out", "runs/photos", "--labels", word]
    assert arguments[3:] == [sys.executable, "-m", "openmae.cli", *expected]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("code", [0, 1, 74, 75, 76, 143])
def test_the_job_is_requeued_only_when_training_has_stopped_and_saved(code: int, cluster: Cluster) -> None:
    script = write()
    cluster.answer("srun", code=code)
    assert cluster.run(script).returncode == code
    assert cluster.arguments("scontrol") == (["requeue", "12345"] if code == 75 else None)


def test_a_cluster_that_does_not_requeue_is_said_so_in_the_log(cluster: Cluster) -> None:
    script = write()
    cluster.answer("srun", code=75)
    cluster.answer("scontrol", err="Requested operation is presently disabled", code=1)
    finished = cluster.run(script)
    assert finished.returncode == 75
    assert "does not requeue this job; to continue, submit it again" in finished.stderr


def test_what_another_launcher_left_in_the_environment_is_dropped(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = write(flags=("--setup", "export MASTER_PORT=$((15000 + 1))\nexport NCCL_DEBUG='W R'"))
    left = ("MASTER_ADDR", "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID")
    for name in (*left, "MASTER_PORT"):
        monkeypatch.setenv(name, "7")
    cluster.run(script)
    environment = cluster.environment("srun")
    assert not set(left) & set(environment)
    assert (environment["MASTER_PORT"], environment["NCCL_DEBUG"]) == ("15001", "W R")  # what --setup sets stays


def test_a_setup_that_fails_ends_the_job(cluster: Cluster) -> None:
    assert cluster.run(write(flags=("--setup", "no-such-module load; true"))).returncode == 127
    assert cluster.arguments("srun") is None


def test_names_of_run_folders_are_quoted_as_sbatch_reads_them(cluster: Cluster, tmp_path: Path) -> None:
    found = directives(write(out='runs/100 % "best" it\'s #1'))
    assert found["job-name"] == """'100 % "best" it'"'"'s #1'"""
    assert found["output"] == f"""'{tmp_path}/runs/100 %% "best" it'"'"'s #1/slurm-%j.log'"""


def test_no_job_is_called_as_a_terminal_session(cluster: Cluster) -> None:
    assert directives(write(out="runs/bash"))["job-name"] == "openmae-bash"


def test_dry_run_prints_the_script_and_submits_nothing(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("--partition", "pretrain", "--dry-run", "pretrain", "fashion-mnist", "--data", "d", "--out", "r")
    code, out, err = run(capsys, "slurm", *command)
    assert code == 0
    assert out == Path("r/slurm.sh").read_text()
    assert "#SBATCH --partition=pretrain\n" in out  # also the name of a stage
    assert str(Path("r/slurm.sh").absolute()) in err
    assert cluster.arguments("sbatch") is None


TRAINING = ("pretrain", "fashion-mnist", "--data", "photos", "--out", "a run")


@pytest.mark.parametrize(
    ("answer", "clusters"), [("12345", ""), ("Welcome to x2!\n12345;west\n", "--clusters=west ")], ids=["one", "many"]
)
def test_submission_names_the_job_and_how_to_watch_and_cancel_it(
    answer: str, clusters: str, cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.answer("sbatch", out=answer, err="sbatch: 80 % of your hours are used\n")
    code, out, err = run(capsys, "slurm", *TRAINING)
    assert "80 % of your hours" in err
    assert code == 0
    assert cluster.arguments("sbatch") == ["--parsable", f"{tmp_path}/a run/slurm.sh"]
    assert "job 12345 submitted" in out
    assert f"squeue {clusters}--jobs=12345\n" in out
    assert f"tail -F '{tmp_path}/a run/slurm-12345.log'\n" in out
    assert f"scancel {clusters}12345\n" in out
    assert {path.name for path in Path("a run").iterdir()} == {"slurm.sh"}  # none of submitit's pickles


def test_what_went_wrong_with_sbatch_is_said(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.answer("sbatch", err="sbatch: error: Batch job submission failed:\nInvalid qos\n", code=1)
    code, _, err = run(capsys, "slurm", *TRAINING)
    assert code == 1
    assert "(sbatch: error: Batch job submission failed: Invalid qos); change the flags" in err
    cluster.answer("sbatch", code=9)
    assert "(exit code 9)" in run(capsys, "slurm", *TRAINING)[2]
    cluster.answer("sbatch", out="fine\n")
    code, _, err = run(capsys, "slurm", *TRAINING)
    assert code == 1
    assert "named no job" in err
    assert "squeue --me" in err
    monkeypatch.setenv("PATH", "")
    code, _, err = run(capsys, "slurm", *TRAINING)
    assert code == 1
    assert "this machine has no sbatch; on a machine that has, run: sbatch" in err
    assert Path("a run/slurm.sh").is_file()


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ((), 2, "which training?"),
        (("report", "runs/photos"), 2, "which training?"),
        (("--partitoin", "gpu", *TRAINING), 2, "--partitoin"),
        (("--cpus-per-device", "0", *TRAINING), 2, "--cpus-per-device must be at least 1"),
        ((*TRAINING, "--epoch", "3"), 2, "--epochs"),
        ((*TRAINING, "--mask-ratio", "3"), 2, "--mask-ratio must lie between 0 and 1"),
        (("pretrain", "fashion-mnits", "--out", "a run"), 2, "did you mean fashion-mnist"),
        (("pretrain", "cifar10", "--out", "a run"), 1, "give --data"),
        (("linear", "fashion-mnist", "--data", "photos", "--out", "a run"), 1, "give --weights"),
        ((*TRAINING, "--nodes", "4", "--devices", "3", "--batch-size", "128"), 1, "use --batch-size 120"),
        (("--partition", "a\nb", *TRAINING), 1, "has a line break"),
        ((*TRAINING[:-1], "a\\run"), 1, "has a backslash; use another name"),
        ((*TRAINING[:-1], "commands/srun/run"), 1, "give --out a folder that you may write"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_written(
    command: tuple[str, ...], code: int, says: str, cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(capsys, "slurm", *command)
    assert found == code
    assert says in " ".join((out + err).replace("│", " ").split())
    assert "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} == {"commands"}
    assert cluster.arguments("sbatch") is None


def test_without_submitit_it_says_how_to_get_it(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit.slurm.slurm", None)
    code, _, err = run(capsys, "slurm", *TRAINING)
    assert code == 1
    assert "pip install 'openmae[slurm]'" in err
    assert {path.name for path in tmp_path.iterdir()} == {"commands"}


def test_help_of_slurm_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "slurm", "--help")
    assert code == 0
    for word in ("openmae slurm --partition gpu", "--time", "--cpus-per-device", "--setup", "--dry-run", "requeued"):
        assert word in out
    code, out, _ = run(capsys, "slurm", "pretrain", "vit-b16-800e", "--help")
    assert code == 0
    assert "--mask-ratio" in out


@pytest.mark.parametrize(("process", "speaks"), [("0", True), ("3", False)])
def test_one_process_of_a_job_prints_the_result(
    process: str, speaks: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(recipe: str | PretrainRecipe, *, out: str | Path | None = None) -> PretrainResult:
        return {"loss": 1.0, "images_per_second": 2.0}

    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", process)
    monkeypatch.setitem(VERBS, "pretrain", Verb(train, show=show_pretraining))
    assert main(["pretrain", "fashion-mnist"]) == 0
    assert ("final loss" in capsys.readouterr().out) == speaks
