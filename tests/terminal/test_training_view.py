import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from openmae.reporter import SECONDS_BETWEEN_LINES, Reporter, use
from openmae.terminal import training_view
from openmae.terminal.training_view import MOST_POINTS, STOPPING, Drawn, Steady, TrainingView, thinned

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
LINE = {"epoch": 0.5, "loss": 0.5, "images_per_second": 100.0, "waiting_for_data": 0.0}


class Clock:
    """Time that passes when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(training_view, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def console(*, terminal: bool, quiet: bool = False) -> Console:
    environment = {"TERM": "xterm"}
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, height=24, quiet=quiet, _environ=environment)


def written(where: Console) -> str:
    assert isinstance(where.file, io.StringIO)
    return where.file.getvalue()


def view(where: Console, **options: object) -> TrainingView:
    with use(Reporter(console=where)):
        made = TrainingView(
            stage="pretrain",
            name="mine",
            place="runs/mine",
            epochs=10,
            steps_per_epoch=10,
            **options,  # type: ignore[arg-type]
        )
    made.restart(0, [])
    return made


def test_a_terminal_shows_a_panel_and_gets_its_cursor_back_after_an_error() -> None:
    where = console(terminal=True)

    def fail() -> None:
        with view(where) as shown:
            shown.log(20, LINE)
            shown.moved(25)
            assert shown._live is not None
            shown._live.refresh()
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    text = written(where)
    assert all(part in text for part in ("runs/mine", "epoch 3/10", " 25%", "0.5000", "100 images/s"))
    assert text.count(HIDE) == text.count(SHOW) == 1
    assert text.rindex(SHOW) > text.rindex("runs/mine")


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_writes_nothing(clock: Clock, terminal: bool) -> None:
    where = console(terminal=terminal, quiet=True)
    with view(where) as shown:
        clock.now += 100.0
        shown.log(5, {**LINE, "quality/loss": 0.4})
    assert written(where) == ""


def test_off_a_terminal_there_is_a_line_now_and_then(clock: Clock) -> None:
    where = console(terminal=False)
    with view(where) as shown:
        for step in range(1, 33):
            clock.now += 1.0
            shown.moved(step)
            shown.log(step, {**LINE, "waiting_for_data": 0.5 if step > 20 else 0.1})
    assert SECONDS_BETWEEN_LINES == 15
    assert written(where).splitlines() == [
        "pretrain epoch 2/10  loss 0.5000  100 images/s  0:01:24 left",
        "pretrain epoch 4/10  loss 0.5000  100 images/s  50% waiting for data  0:01:08 left",
    ]


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(clock: Clock) -> None:
    where = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None, _environ={"TERM": "dumb"})
    with view(where) as shown:
        clock.now += 16.0
        shown.moved(1)
        shown.log(1, LINE)
    assert written(where).splitlines() == ["pretrain epoch 1/10  loss 0.5000  100 images/s  0:26:24 left"]


def test_time_left_goes_by_the_newer_half_of_what_this_process_has_done(clock: Clock) -> None:
    shown = view(console(terminal=True))
    shown.restart(50, [{"step": 50, "loss": 1.0}])
    assert shown.frame.seconds_left is None
    for step, seconds in ((60, 100.0), (70, 10.0), (80, 10.0)):
        clock.now += seconds
        shown.moved(step)
        shown.log(step, LINE)
    assert shown.frame.seconds_left == 20.0


def test_a_run_that_continues_shows_what_was_logged_before() -> None:
    shown = view(console(terminal=True))
    shown.log(90, {"loss": 9.0, "quality/loss": 9.0})
    shown.restart(20, [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 0.5}, {"step": 20, "top1": 7.0}], "step 3: no")
    frame = shown.frame
    assert frame.losses == [(10, 1.0), (20, 0.5)]
    assert frame.figures == {"step": 20, "loss": 0.5, "top1": 7.0}
    assert (frame.epoch, frame.alarm) == (2.0, "step 3: no")


def test_a_request_to_stop_is_seen_at_once() -> None:
    asked = [False]
    shown = view(console(terminal=True), stopping=lambda: asked[0])
    assert shown.frame.ending == ""
    asked[0] = True
    assert shown.frame.ending == STOPPING


def test_a_terminal_that_becomes_narrower_keeps_no_rows_of_before() -> None:
    where, drawn = console(terminal=True), Drawn()
    where.print(Steady("x" * 80 + "\nshort", drawn))
    up = "\x1b[1A\x1b[2K"
    assert up not in written(where)
    where.width = 30
    where.print(Steady("narrow", drawn))
    assert written(where).count(up) == 2, "80 signs are three rows of thirty, and one was counted already"
    where.print(Steady("narrow", drawn))
    assert written(where).count(up) == 2


def test_what_is_typed_meanwhile_stands_on_a_line_of_its_own() -> None:
    lines = console(terminal=True).render_lines(Steady("frame", Drawn()), pad=False)
    assert ["".join(segment.text for segment in line) for line in lines] == ["frame", ""]


def test_a_long_curve_keeps_its_shape_in_fewer_points() -> None:
    points = [(float(step), float(step)) for step in range(2 * MOST_POINTS + 1)]
    fewer = thinned(points)
    assert len(fewer) <= MOST_POINTS
    assert fewer[-1][0] >= points[-1][0] - 4
    assert all(step == value for step, value in fewer)
