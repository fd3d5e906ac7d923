from openmae.training.alarms.alarm import History
from openmae.training.alarms.quality import overfitting, rank, settled
from openmae.training.alarms.rules import alarms_over
from tests.training.alarms.histories import FACTS, facts, training, with_quality

FALLING = (0.8, 0.6, 0.55, 0.52, 0.5)
RISING = (0.8, 0.6, 0.55, 0.6, 0.62)


def test_held_out_loss_that_rises_while_the_training_loss_falls_is_overfitting() -> None:
    message = overfitting(History(with_quality(training(1000), loss=RISING, held_out=[1.0] * 5)), FACTS)
    assert message is not None
    assert "held-out loss has risen from 0.550 at step 600 to 0.620" in message
    assert "stop near epoch 6" in message


def test_a_sample_that_was_trained_on_says_nothing_about_overfitting() -> None:
    assert overfitting(History(with_quality(training(1000), loss=RISING, held_out=[0.0] * 5)), FACTS) is None


def test_held_out_loss_that_falls_or_wavers_is_well() -> None:
    for losses in (FALLING, (0.8, 0.6, 0.55, 0.56, 0.555), (0.8, 0.6, 0.5, 0.5, 0.6)):
        assert overfitting(History(with_quality(training(1000), loss=losses, held_out=[1.0] * 5)), FACTS) is None


def test_both_losses_rising_is_not_overfitting() -> None:
    lines = with_quality(training(1000, lambda step: 0.4 + step / 5000), loss=RISING, held_out=[1.0] * 5)
    assert overfitting(History(lines), FACTS) is None


def test_a_few_images_learned_by_heart_are_said_without_a_held_out_sample() -> None:
    message = overfitting(History(training(600, lambda _: 0.01)), facts(images=32))
    assert message is not None
    assert "after each of the 32 images was seen 1,200 times: they are learned by heart" in message


def test_features_that_lose_half_of_their_rank_collapse() -> None:
    message = rank(History(with_quality(training(1000), rank=[20, 40, 42, 44, 15, 14, 13])), FACTS)
    assert message is not None
    assert "fallen from 42 to 14" in message
    assert rank(History(with_quality(training(1000), rank=[20, 40, 42, 44, 15, 40, 41])), FACTS) is None


def test_a_probe_that_does_not_move_for_a_fifth_of_the_run_is_settled() -> None:
    points = [50, 55, 60, 65, 68, 70, 71, *[71.2, 71.1, 71.3, 71.2, 71.0, 71.1, 71.3] * 2][:20]
    message = settled(History(with_quality(training(6000), probe=points)), FACTS)
    assert message is not None
    assert "the probe (71.1 %) has not moved for 39 epochs; stop here, or start again with about --epochs 41" in message


def test_a_probe_that_still_moves_or_a_run_that_nears_its_end_is_not_settled() -> None:
    moving = [50 + place for place in range(20)]
    assert settled(History(with_quality(training(6000), probe=moving)), FACTS) is None
    still = [50.0, 60.0, 70.0, *[71.0] * 15]
    assert settled(History(with_quality(training(9000), probe=still)), FACTS) is None


def test_a_healthy_run_with_quality_raises_nothing() -> None:
    lines = with_quality(
        training(10_000),
        loss=[0.45 + 0.4 / place for place in range(1, 21)],
        held_out=[1.0] * 20,
        smooth=[0.62] * 20,
        rank=[30, 20, 25, *range(28, 45)],
        probe=[50 + 2 * place for place in range(20)],
    )
    assert alarms_over(lines, FACTS) == []
