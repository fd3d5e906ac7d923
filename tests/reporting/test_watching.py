import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from openmae.checkpoints.locking import FolderLock
from openmae.errors import UserError
from openmae.reporter import Reporter, use
from openmae.reporting import run_files, run_finding
from openmae.reporting.run_files import read_run
from openmae.reporting.run_finding import find_runs
from openmae.reporting.run_places import RunPlace
from openmae.reporting.watching import Frames, Watched, frame_of, watch_runs
from openmae.terminal.panel import Frame

SWITCH, BACK = "\x1b[?1049h", "\x1b[?1049l"


def line(step: int, **figures: float) -> str:
    speeds = {"samples": step * 40, "images_per_second": 100.0}
    return json.dumps({"step": step, "epoch": step / 20, **speeds, **figures}) + "\n"


def make_run(folder: Path, *, running: bool = False) -> Path:
    """A run of another machine that has made half of its ten epochs, or one that has crashed then."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("stage: pretrain\nname: mine\nepochs: 10\n")
    (folder / "metrics.jsonl").write_text(line(50, loss=0.75) + line(100, loss=0.5))
    (folder / ".lock").write_text("process 1 on another since 2026-12-01")
    if not running:
        then = time.time() - 10_000
        for file in folder.iterdir():
            os.utime(file, (then, then))
    return folder


def console(*, terminal: bool = False, height: int = 24) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, height=height, _environ={"TERM": "xterm"})


def written(where: Console) -> str:
    assert isinstance(where.file, io.StringIO)
    return where.file.getvalue()


def during(monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], object]) -> list[float]:
    """Instead of waiting, do the next of these; returns how long each wait was to be."""
    waits: list[float] = []
    left = iter(acts)

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        next(left)()

    monkeypatch.setattr("openmae.reporting.watching.time.sleep", sleep)
    return waits


def append(folder: Path, text: str) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(text)


def finish(folder: Path) -> None:
    (folder / "results.json").write_text('{"loss": 0.25}')


def stop() -> None:
    raise KeyboardInterrupt


def test_the_files_of_a_run_make_the_frame_of_a_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", running=True)
    append(folder, json.dumps({"step": 100, "top1": 70.0}) + "\n")
    append(folder, line(100, **{"quality/loss": 0.4}))
    (folder / "alarms.jsonl").write_text('{"step": 60, "kind": "stuck", "message": "stuck at 0.75"}\n')
    frame = frame_of(read_run(folder))
    assert (frame.title, frame.place, frame.state) == ("pretrain mine", str(folder), "running")
    assert (frame.epochs, frame.epoch, frame.share) == (10.0, 5.0, 0.5)
    assert list(frame.losses) == [(50, 0.75), (100, 0.5)]
    assert (frame.figures["top1"], frame.figures["quality/loss"], frame.figures["loss"]) == (70.0, 0.4, 0.5)
    assert frame.seconds_left == 4000 / 100
    assert frame.alarm == "step 60: stuck at 0.75"
    assert frame.silent is not None
    assert frame.silent < 60


def test_a_run_without_any_line_is_shown_too(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", running=True)
    (folder / "metrics.jsonl").unlink()
    (folder / "recipe.yaml").write_text("epochs: many\n")
    frame = frame_of(read_run(folder))
    assert (frame.share, frame.seconds_left, frame.title) == (0.0, None, "")


def test_once_looks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    during(monkeypatch)
    where = console(terminal=True)
    with use(Reporter(console=where)):
        (frame,) = watch_runs([make_run(tmp_path / "a", running=True)], every=1.0, once=True)
    assert frame.state == "running"
    assert written(where) == ""


def test_off_a_terminal_news_are_told_until_all_runs_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make_run(tmp_path / "one", running=True), make_run(tmp_path / "two")
    waits = during(
        monkeypatch, lambda: None, lambda: append(one, line(150, loss=0.4) + '{"step": 1'), lambda: finish(one)
    )
    where = console()
    with use(Reporter(console=where)):
        frames = watch_runs([tmp_path], every=7.0, once=False)
    assert waits == [7.0, 7.0, 7.0]
    assert [frame.state for frame in frames] == ["finished", "crashed"]
    assert written(where).splitlines() == [
        f"{one}  running  epoch 6/10  loss 0.5000  0:00:40 left",
        f"{two}  crashed  epoch 6/10  loss 0.5000",
        f"{one}  running  epoch 8/10  loss 0.4000  0:00:20 left",
    ]


def test_on_a_terminal_the_picture_changes_and_the_screen_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path / "one", running=True)
    during(monkeypatch, lambda: append(folder, line(150, loss=0.4321)), stop)
    where = console(terminal=True)
    with use(Reporter(console=where)):
        (frame,) = watch_runs([folder], every=1.0, once=False)
    assert frame.epoch == 7.5
    text = written(where)
    assert text.index("0.5000") < text.index("0.4321")
    assert text.count(SWITCH) == text.count(BACK) == 1
    assert text.rindex(BACK) > text.rindex("0.4321")


def test_a_folder_that_cannot_be_read_for_a_moment_is_shown_as_it_was(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", running=True)
    watched = Watched(folder)
    folder.rename(tmp_path / "away")
    watched.look()
    assert "does not exist" in watched.frame.ending
    assert watched.frame.figures["loss"] == 0.5
    (tmp_path / "away").rename(folder)
    watched.look()
    assert watched.frame.ending == ""


def test_a_run_that_goes_back_to_a_checkpoint_loses_its_later_lines(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", running=True)
    watched = Watched(folder)
    (folder / "metrics.jsonl").write_text(line(50, loss=0.75) + line(80, loss=0.1) + line(90, loss=0.2) * 3)
    watched.look()
    assert [step for step, _ in watched.frame.losses] == [50, 80, 90, 90, 90]


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "one", running=True)
    (folder / "metrics.jsonl").write_text("".join(line(step, loss=1.0) for step in range(1000)))
    read: list[int] = []

    class Counting(RunPlace):
        def read(self, name: str, *, start: int, end: int) -> bytes:
            read.append(end - start)
            return super().read(name, start=start, end=end)

    monkeypatch.setattr(run_files, "RunPlace", Counting)
    watched = Watched(folder)
    read.clear()
    watched.look()
    assert read == []
    append(folder, line(1000, loss=0.5))
    watched.look()
    assert len(watched.frame.losses) == 1001
    assert sum(read) < 300


def shown(count: int, *, height: int = 24, running: int = 0) -> list[str]:
    """The lines of a picture of so many runs, of which the last ones are running."""
    frames = [
        Frame(
            title="t",
            place=f"run-{index}",
            epochs=2,
            epoch=1,
            state="running" if index >= count - running else "stopped",
            figures={"loss": 0.5},
        )
        for index in range(count)
    ]
    where = console(height=height)
    where.print(Frames(frames, footer="the end"))
    return written(where).splitlines()


def test_runs_that_fit_have_panels(tmp_path: Path) -> None:
    lines = shown(5)
    assert len(lines) == 5 * 4 + 1
    assert lines[-1] == "the end"


def test_runs_that_do_not_fit_have_a_line_each_those_that_run_come_first() -> None:
    lines = shown(10, running=1)
    assert len(lines) <= 24
    panels = [text.split()[2] for text in lines if text.startswith("╭")]
    assert panels[-1] == "run-9"
    assert len(panels) == 4
    assert len({name for text in lines for name in text.split() if name.startswith("run-")}) == 10


def test_more_runs_than_rows_are_counted() -> None:
    lines = shown(30, height=10, running=2)
    assert len(lines) == 10
    assert [text.split()[:2] for text in lines[:3]] == [
        ["running", "run-28"],
        ["running", "run-29"],
        ["stopped", "run-0"],
    ]
    assert lines[-2] == "and 22 more: openmae runs lists all"


def test_runs_are_found_below_a_folder_but_not_in_what_a_run_keeps(tmp_path: Path) -> None:
    for name in ("b/deep/er", "a", "a/linear", "a/checkpoints/x", ".hidden", "1/2/3/4/5"):
        make_run(tmp_path / name)
    assert find_runs(tmp_path) == [f"{tmp_path}/{name}" for name in ("a", "a/linear", "b/deep/er")]
    assert find_runs(f"{tmp_path}/a/") == [f"{tmp_path}/a/", f"{tmp_path}/a/linear"]


def test_the_search_for_runs_comes_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c", "d"):
        make_run(tmp_path / name)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    monkeypatch.setattr(run_finding, "MOST_FOLDERS", 3)
    assert find_runs(tmp_path / "b") == [f"{tmp_path}/b"]
    assert len(find_runs(tmp_path)) < 4


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no runs; give the folder of a run, or one that has some in it"):
        watch_runs([tmp_path], every=1.0, once=True)


def test_watching_the_own_run_leaves_it_its_lock(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one")
    lock = FolderLock(folder)
    assert watch_runs([folder], every=1.0, once=True)[0].state == "running"
    lock.release()
