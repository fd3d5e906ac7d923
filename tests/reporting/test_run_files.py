import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from openmae.checkpoints.locking import FolderLock
from openmae.errors import UserError
from openmae.reporting import growing_files, run_files
from openmae.reporting.run_files import read_run

LOCK = """
import sys, time
from pathlib import Path
from openmae.checkpoints.locking import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(60)
"""
STEP = {"step": 20, "epoch": 1.0, "samples": 800, "loss": 0.5, "images_per_second": 100.0}
AN_HOUR = 3600.0


def write(folder: Path, **files: str) -> Path:
    """A run folder in which nothing happens any more: `metrics_jsonl="…"` is a file."""
    folder.mkdir(exist_ok=True)
    for name, text in {"recipe_yaml": "stage: pretrain\nname: mine\nepochs: 4\n", **files}.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return folder


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def age(folder: Path, seconds: float) -> None:
    then = time.time() - seconds
    for file in folder.iterdir():
        os.utime(file, (then, then))


def locked_elsewhere(folder: Path) -> None:
    """As a process of another machine leaves its lock file."""
    (folder / ".lock").write_text("process 12 on another-host since 2026-12-01 00:00:00")


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Path]:
    """A run folder that another process has locked."""
    folder = write(tmp_path / "held")
    process = subprocess.Popen([sys.executable, "-c", LOCK, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield folder
    process.kill()
    process.communicate()


def test_a_finished_training_is_read_whole(tiny_run: Path) -> None:
    run = read_run(tiny_run)
    assert (run.name, run.stage, run.state, run.recipe["epochs"]) == ("tiny", "pretrain", "finished", 2)
    assert run.results is not None
    assert run.results["protocol"] == "pretrain"
    assert run.metrics == run.steps
    assert run.metrics[-1]["epoch"] == 2
    assert run.started is not None
    assert run.updated is not None
    assert run.started - 1 <= run.updated
    assert run.environment["seed"] == 0


def test_kinds_of_lines_are_told_apart(tmp_path: Path) -> None:
    quality, evaluation = {**STEP, "quality/loss": 0.4}, {"step": 20, "top1": 70.0}
    run = read_run(write(tmp_path / "run", metrics_jsonl=lines(STEP, quality, evaluation)))
    assert (run.steps, run.quality, run.evaluations) == ([STEP], [quality], [evaluation])


def test_what_is_cut_short_or_of_a_wrong_kind_is_left_out(tmp_path: Path) -> None:
    metrics = lines(STEP, {**STEP, "note": "text", "list": [1], "huge": 10**400, "on": True}, {"loss": 1.0}) + "[1]\n{"
    alarms = lines({"step": 1, "kind": "stuck", "message": "x" * 5000}, {"step": "1", "kind": "stuck", "message": "y"})
    run = read_run(
        write(
            tmp_path / "run",
            metrics_jsonl=metrics,
            alarms_jsonl=alarms + '{"step": 3, "ki',
            environment_json='{"star',
            results_json='{"protocol": "pre',
            recipe_yaml="stage: {",
        )
    )
    assert run.metrics == [STEP, STEP]
    assert [len(alarm["message"]) for alarm in run.alarms] == [run_files.MOST_OF_TEXT]
    assert (run.environment, run.results, run.recipe, run.stage, run.started) == ({}, None, {}, "", None)


def test_of_a_huge_file_the_last_lines_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing_files, "MOST_OF_LINES", 1000)
    run = read_run(write(tmp_path / "run", metrics_jsonl=lines(*({"step": step} for step in range(1000)))))
    assert 50 < len(run.metrics) < 80
    assert run.metrics[-1] == {"step": 999}


def test_a_folder_that_a_process_has_locked_is_of_a_running_run(holder: Path) -> None:
    age(holder, AN_HOUR)
    assert read_run(holder).state == "running"


def test_looking_at_the_own_run_neither_misses_nor_ends_its_lock(tmp_path: Path) -> None:
    """POSIX locks end when their process closes the file anywhere."""
    folder = write(tmp_path / "run")
    lock = FolderLock(folder)
    age(folder, AN_HOUR)
    assert read_run(folder).state == "running"
    refused = subprocess.run([sys.executable, "-c", LOCK, str(folder)], capture_output=True, text=True)
    assert "is in use by process" in refused.stderr
    lock.release()
    assert read_run(folder).state == "crashed"


def test_looking_keeps_no_training_out(holder: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    FolderLock(folder).release()
    read_run(folder)
    FolderLock(folder).release()
    assert read_run(holder).state == "running"


def test_a_run_whose_process_has_gone_without_a_word_has_crashed(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", metrics_jsonl=lines(STEP), log_txt="2026-12-01 00:00:00 pre-training\n")
    FolderLock(folder).release()
    assert (read_run(folder).state, read_run(folder).ending) == ("crashed", "")


@pytest.mark.parametrize(
    ("last", "state", "ending"),
    [
        ("asked to stop: stopped after step 3 of 9", "stopped", "stopped after step 3 of 9"),
        ("failed: the disk is full", "crashed", "the disk is full"),
        ("asked to stop: before\n2026-12-01 00:00:01 continuing from step 3", "crashed", ""),
    ],
)
def test_the_log_says_how_a_run_ended(tmp_path: Path, last: str, state: str, ending: str) -> None:
    folder = write(tmp_path / "run", log_txt=f"2026-12-01 00:00:00 pre-training\n2026-12-01 00:00:00 {last}\n")
    FolderLock(folder).release()
    run = read_run(folder)
    assert (run.state, run.ending) == (state, ending)


def test_the_run_of_another_machine_is_running_while_its_files_change(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", metrics_jsonl=lines(STEP))
    locked_elsewhere(folder)
    assert read_run(folder).state == "running"
    age(folder, AN_HOUR)
    assert read_run(folder).state == "crashed"


def test_a_run_that_seldom_logs_is_given_five_of_its_pauses(tmp_path: Path) -> None:
    slow = {**STEP, "images_per_second": 1.0}
    folder = write(tmp_path / "run", metrics_jsonl=lines(slow, {**slow, "samples": 1600}))
    locked_elsewhere(folder)
    age(folder, AN_HOUR)
    assert read_run(folder).state == "running"
    age(folder, 2 * AN_HOUR)
    assert read_run(folder).state == "crashed"


def test_a_run_behind_a_url_is_read_as_one_in_a_folder(tiny_run: Path) -> None:
    url = f"memory://{uuid.uuid4()}/tiny"
    files = fsspec.filesystem("memory")
    for file in tiny_run.iterdir():
        if file.is_file() and file.name != "results.json":
            files.pipe(f"{url}/{file.name}", file.read_bytes())
    run, here = read_run(url), read_run(tiny_run)
    assert (run.metrics, run.recipe, run.name, run.path) == (here.metrics, here.recipe, "tiny", url)
    assert (run.state, run.results) == ("running", None)
    files.pipe(f"{url}/results.json", (tiny_run / "results.json").read_bytes())
    assert (read_run(url).state, read_run(url).results) == ("finished", here.results)
    files.rm(url, recursive=True)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run does not exist; give the folder of a run"):
        read_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"is no run folder: it has no recipe.yaml; give a folder that a training has"):
        read_run(tmp_path)
    with pytest.raises(UserError, match=r"memory://nothing.* does not exist; give the folder of a run"):
        read_run("memory://nothing-here")


def test_a_pipe_in_the_folder_is_not_waited_for(tmp_path: Path) -> None:
    folder = write(tmp_path / "run")
    os.mkfifo(folder / "metrics.jsonl")
    os.mkfifo(folder / ".lock")
    assert read_run(folder).metrics == []
