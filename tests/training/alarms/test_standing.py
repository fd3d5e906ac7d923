from openmae.training.alarms.alarm import Kind
from openmae.training.alarms.standing import LINES_TO_CLEAR, Standing

WELL: dict[Kind, str | None] = {"spike": None}
SICK: dict[Kind, str | None] = {"spike": "jumped"}


def test_an_alarm_is_said_once_while_it_stands() -> None:
    standing = Standing()
    assert [alarm.message for alarm in standing.news(1, SICK)] == ["jumped"]
    assert standing.news(2, SICK) == []
    assert standing.news(3, WELL) == []
    assert standing.news(4, SICK) == []


def test_an_alarm_is_said_again_after_a_while_in_which_all_was_well() -> None:
    standing = Standing()
    standing.news(1, SICK)
    for step in range(LINES_TO_CLEAR):
        standing.news(step, WELL)
    assert standing.news(99, SICK)[0].step == 99


def test_an_alarm_that_comes_and_goes_is_no_flood() -> None:
    standing = Standing()
    said = [standing.news(step, SICK if step % 70 == 0 else WELL) for step in range(10_000)]
    assert 2 <= sum(map(len, said)) <= 3


def test_alarms_of_before_stand_when_a_run_continues() -> None:
    assert Standing(["spike"]).news(1, SICK) == []
    assert Standing().news(1, SICK) != []
