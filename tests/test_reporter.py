import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from openmae import reporter
from openmae.reporter import SECONDS_BETWEEN_LINES, ProgressView, Reporter, say, use


class Clock:
    """Time that passes when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(reporter, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=200)


def progress_view(title: str, total: int, *, where: Console, done: int = 0, quiet: bool = False) -> ProgressView:
    with use(Reporter(console=Console(quiet=True) if quiet else where)):
        return ProgressView(title, total, done=done)


def written(where: Console) -> str:
    assert isinstance(where.file, io.StringIO)
    return where.file.getvalue()


def test_off_a_terminal_there_is_a_line_now_and_then(clock: Clock) -> None:
    where = console(terminal=False)
    with progress_view("pretrain", 100, where=where) as view:
        for step in range(1, 33):
            clock.now += 1.0
            view.update(step, f"step {step}", "loss 0.5")
    lines = written(where).splitlines()
    assert SECONDS_BETWEEN_LINES == 15
    assert lines == ["step 16  loss 0.5  0:01:24 left", "step 32  loss 0.5  0:01:08 left"]


def test_time_left_counts_only_what_this_process_has_done(clock: Clock) -> None:
    where = console(terminal=False)
    with progress_view("pretrain", 100, where=where, done=80) as view:
        clock.now += 20.0
        view.update(90, "pretrain")
    assert "0:00:20 left" in written(where)


def test_time_left_of_several_days_says_the_days(clock: Clock) -> None:
    where = console(terminal=False)
    with progress_view("pretrain", 3 * 24 * 60 + 1, where=where) as view:
        clock.now += 60.0
        view.update(1, "pretrain")
    assert "3 days, 0:00:00 left" in written(where)


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_writes_nothing(clock: Clock, terminal: bool) -> None:
    where = console(terminal=terminal)
    with progress_view("pretrain", 10, where=where, quiet=True) as view:
        clock.now += 100.0
        view.update(5, "pretrain", "loss 0.5")
    assert written(where) == ""


def test_on_a_terminal_the_bar_shows_share_and_note_and_gives_the_cursor_back_after_an_error() -> None:
    where = console(terminal=True)
    view = progress_view("pretrain", 10, where=where)

    def fail() -> None:
        with view:
            view.update(5, "epoch 1/2", "loss 0.5")
            view._bar.refresh()
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    text = written(where)
    assert all(part in text for part in ("epoch 1/2", "50%", "loss 0.5"))
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert text.count(hide) == text.count(show) == 1
    assert text.rindex(show) > text.rindex("loss 0.5")


def test_markup_in_a_note_is_shown_as_it_is(clock: Clock) -> None:
    where = console(terminal=False)
    with progress_view("pretrain", 10, where=where) as view:
        clock.now += 20.0
        view.update(5, "[red]", "[bold]")
    assert "[red]  [bold]" in written(where)


def test_a_silenced_reporter_prints_and_logs_nothing(tmp_path: Path) -> None:
    where = console(terminal=False)
    with use(Reporter(console=where)) as used:
        used.log_to(tmp_path / "log.txt")
        say("one")
        used.silence()
        say("two")
    assert written(where) == "one\n"
    assert (tmp_path / "log.txt").read_text().count("\n") == 1


def test_names_with_control_characters_are_spelled_out_on_the_terminal_and_in_the_log(tmp_path: Path) -> None:
    where = console(terminal=False)
    with use(Reporter(console=where)) as used:
        used.log_to(tmp_path / "log.txt")
        say("\x1b[31mred\u202e.png is left out\nsecond line")
    for text in (written(where), (tmp_path / "log.txt").read_text()):
        assert "\\x1b[31mred\\u202e.png is left out\nsecond line" in text


def test_a_full_disk_ends_no_run_for_the_sake_of_a_message(tmp_path: Path) -> None:
    where = console(terminal=False)
    with use(Reporter(console=where)) as used:
        used.log_to(tmp_path / "no folder" / "log.txt")
        say("hello")
    assert written(where) == "hello\n"
