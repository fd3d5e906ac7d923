import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from openmae.terminal.panel import Frame, RunPanel, alarm_text, duration, held_out_text

QUALITY = {
    "quality/loss": 0.41,
    "quality/own_mean": 1.0,
    "quality/nearest": 0.83,
    "quality/smooth": 0.62,
    "quality/constant": 1.0,
    "quality/rank": 41.26,
    "quality/deviation": 0.98,
    "quality/dead": 0.02,
    "quality/knn": 71.24,
    "quality/probe": 70.3,
    "quality/held_out": 1.0,
}
FRAME = Frame(
    title="pretrain vit-b16-800e",
    place="runs/photos",
    epochs=800,
    epoch=331.5,
    losses=[(20.0 * step, 1.0 / step) for step in range(1, 100)],
    figures={"loss": 0.4123, "images_per_second": 8310.4, "waiting_for_data": 0.03, "lr": 1.5e-4, **QUALITY},
    seconds_left=3723.0,
    alarm="step 9,000: the network waited for images 31% of the time; give --workers 12 (now 4)",
)


def shown(frame: Frame, *, width: int = 80, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=file, width=width, height=24, legacy_windows=False).print(RunPanel(frame))
    file.seek(0)
    return file.read()


def test_everything_that_is_known_is_on_eighty_columns() -> None:
    lines = shown(FRAME).splitlines()
    assert lines[0].startswith("╭─ runs/photos  pretrain vit-b16-800e ─")
    assert [line.split()[1] for line in lines[1:-1] if not line.startswith("│          ")] == [
        "progress", "loss", "speed", "held", "features", "accuracy", "alarm",
    ]  # fmt: skip
    assert "epoch 332/800" in lines[1]
    assert lines[1].endswith("  41%  1:02:03 left │")
    assert "0.4123  █" in lines[2]
    assert "8,310 images/s  3% waiting for data" in lines[3]
    assert "held out 0.4100  trivial: own mean 1.00, nearest 0.83, smooth 0.62 " in lines[4]
    assert "features rank 41.3  deviation 0.98  2% of the channels dead" in lines[5]
    assert "accuracy kNN 71.2%  linear probe 70.3%" in lines[6]
    assert "step 9,000: the network waited for images 31% of the time" in lines[7]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 160, 400])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    frame = replace(FRAME, state="crashed", ending="x" * 1000, place="runs/" + "long" * 100)
    assert {len(line) for line in shown(frame, width=width).splitlines()} == {width}


def test_what_nobody_knows_is_left_out() -> None:
    lines = shown(Frame(title="linear mine", place="runs/a", epochs=10, epoch=0)).splitlines()
    assert len(lines) == 3
    assert "epoch 1/10" in lines[1]
    assert "left" not in lines[1]


def test_figures_of_an_evaluation_are_shown() -> None:
    text = shown(replace(FRAME, figures={"top1": 71.234, "r2": 0.51234, "chance": 1.0}))
    assert "test     top-1 71.23%  R² 0.5123" in text


def test_a_loss_that_is_not_better_than_a_trivial_one_is_marked() -> None:
    assert "yellow" in str(held_out_text(QUALITY | {"quality/loss": 0.62}).spans)
    assert "yellow" in str(held_out_text(QUALITY | {"quality/loss": math.nan}).spans)
    assert "yellow" not in str(held_out_text(QUALITY).spans)
    assert "constant 0.40" in held_out_text(QUALITY | {"quality/constant": 0.4}).plain


def test_a_sample_that_is_trained_on_is_not_called_held_out() -> None:
    assert "held out" not in shown(replace(FRAME, figures=QUALITY | {"quality/held_out": 0.0}))


def test_names_and_messages_of_strangers_do_nothing_to_the_terminal() -> None:
    text = shown(replace(FRAME, title="[red]x\x1b[2J", place="[bold]\x07", alarm="\x1b]0;title\x07", ending="\r\n"))
    assert "[red]x\\x1b[2J" in text
    assert "[bold]\\x07" in text
    assert "\\x1b]0;title\\x07" in text
    assert not {"\x1b", "\x07", "\r"} & set(text)


def test_a_terminal_without_unicode_gets_plain_signs() -> None:
    text = shown(FRAME, encoding="ascii")
    assert "0.4123  @" in text
    assert text.startswith("+- runs/photos")


def test_a_run_of_which_nothing_is_heard_says_so_while_it_is_called_running() -> None:
    assert "no file has changed for 0:03:00" in shown(replace(FRAME, state="running", silent=180.0))
    assert "no file has changed" not in shown(replace(FRAME, state="finished", silent=180.0))
    assert "no file has changed" not in shown(replace(FRAME, state="running", silent=100.0))


def test_a_run_that_has_ended_has_no_time_left() -> None:
    assert "left" not in shown(replace(FRAME, state="stopped"))
    assert "ended    killed" in shown(replace(FRAME, state="stopped", ending="killed"))


def test_times_are_short_and_never_nonsense() -> None:
    assert duration(59.6) == "0:01:00"
    assert duration(3 * 86400 + 5) == "3 days, 0:00:05"
    assert duration(1e300) == duration(math.nan) == duration(-1.0) == "for ever"


def test_an_alarm_says_at_which_step_it_was_raised() -> None:
    assert (
        alarm_text({"step": 9000, "kind": "stuck", "message": "the loss is stuck"}) == "step 9,000: the loss is stuck"
    )
