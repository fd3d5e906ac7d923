import pytest

from openmae.training.alarms.alarm import History
from openmae.training.alarms.loading import starved
from tests.training.alarms.histories import facts, training


@pytest.mark.parametrize(
    ("workers", "spare", "waiting", "advice"),
    [
        (1, 7, 0.5, "use --workers 2 (now 1)"),
        (2, 15, 0.8, "use --workers 10 (now 2)"),
        (0, 3, 0.6, "use --workers 2 (now 0)"),
        (1, 3, 0.8, "use --workers 3 (now 1; 5 would be needed), and prepare the images once with openmae pack"),
        (1, 1, 0.8, "with openmae pack, which makes decoding cheaper (5 workers would be needed, and 1 fit"),
    ],
)
def test_the_advice_names_the_workers_that_would_help(workers: int, spare: int, waiting: float, advice: str) -> None:
    lines = training(200, waiting_for_data=waiting)
    message = starved(History(lines), facts(workers=workers, spare_processors=spare))
    assert message is not None
    assert message.startswith(f"training waits for images {100 * waiting:.0f} % of the time; ")
    assert advice in message


def test_a_run_that_waits_little_or_for_a_moment_is_well() -> None:
    assert starved(History(training(200, waiting_for_data=0.1)), facts()) is None
    assert (
        starved(History(training(200, waiting_for_data=lambda step: 0.9 if step in (20, 160) else 0.01)), facts())
        is None
    )


def test_a_run_that_loses_seconds_is_left_alone() -> None:
    assert starved(History(training(200, waiting_for_data=0.5, images_per_second=64e3)), facts()) is None


def test_images_that_stay_in_memory_are_judged_after_the_epoch_that_decodes_them() -> None:
    first_epoch = training(100, waiting_for_data=0.9, every=10)
    assert starved(History(first_epoch), facts()) is not None
    assert starved(History(first_epoch), facts(held=True)) is None
    assert starved(History(training(300, waiting_for_data=0.9)), facts(held=True)) is not None
