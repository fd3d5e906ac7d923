import pytest

from openmae.training.alarms.alarm import History
from openmae.training.alarms.curves import gradient, leak, spike, stuck
from openmae.training.alarms.rules import alarms_over
from tests.training.alarms.histories import FACTS, facts, healthy_loss, training, with_quality


def test_a_healthy_run_raises_nothing() -> None:
    assert alarms_over(training(3000), FACTS) == []


def test_a_loss_that_stays_at_that_of_the_mean_is_said_with_its_number_and_the_rate() -> None:
    message = stuck(History(training(600, lambda _: 1.0)), FACTS)
    assert message is not None
    assert "loss 1.00 has been no better than predicting the mean (0.98) for 300 steps; lower --base-lr" in message


def test_a_loss_that_stays_above_that_of_the_nearest_visible_patch_is_stuck() -> None:
    lines = training(600, lambda _: 0.9)
    assert stuck(History(lines), FACTS) is None
    message = stuck(History(with_quality(lines, nearest=[0.83])), FACTS)
    assert message is not None
    assert "loss 0.90 has been no better than copying the nearest visible patch (0.83)" in message
    assert stuck(History(with_quality(lines, nearest=[1.1])), FACTS) is None


def test_where_patches_repeat_a_copy_is_no_measure_of_ignorance() -> None:
    assert stuck(History(with_quality(training(600, lambda _: 0.1), nearest=[0.0])), FACTS) is None


def test_a_loss_above_the_trivial_one_is_not_stuck_while_it_falls() -> None:
    assert stuck(History(training(600, lambda step: 2 - step / 600)), FACTS) is None


def test_a_run_is_not_stuck_before_three_hundred_steps() -> None:
    assert stuck(History(training(280, lambda _: 1.0)), FACTS) is None


def test_a_long_warmup_is_given_its_time() -> None:
    warming = training(1000, lambda _: 1.0, lr=lambda step: 1e-3 * step / 12_500)
    assert stuck(History(warming), FACTS) is None
    assert stuck(History(training(3000, lambda _: 1.0, lr=lambda step: 1e-3 * step / 12_500)), FACTS) is not None


def test_without_a_trivial_loss_nothing_is_stuck() -> None:
    assert stuck(History(training(600, lambda _: 1.0)), facts(trivial=None)) is None


def test_a_loss_next_to_nothing_is_a_leak() -> None:
    message = leak(History(training(600, lambda _: 0.01)), FACTS)
    assert message is not None
    assert "loss 0.01 is 1 % of what predicting the mean gives" in message


def test_raw_pixels_may_be_predicted_better_than_normalised_ones() -> None:
    lines = training(600, lambda _: 0.02)
    assert leak(History(lines), FACTS) is not None
    assert leak(History(lines), facts(normalised=False)) is None


def test_images_that_interpolate_well_may_have_a_low_loss() -> None:
    lines = training(600, lambda _: 0.03)
    assert leak(History(with_quality(lines, smooth=[0.1])), FACTS) is None
    assert leak(History(with_quality(lines, smooth=[0.8])), FACTS) is not None


def test_a_few_images_that_were_seen_often_are_no_leak() -> None:
    assert leak(History(training(600, lambda _: 0.01)), facts(images=32)) is None


def test_a_loss_that_is_low_on_held_out_images_too_is_a_leak_however_often_the_others_were_seen() -> None:
    lines = with_quality(training(600, lambda _: 0.01), loss=[0.012], held_out=[1.0], smooth=[0.8])
    assert leak(History(lines), facts(images=32)) is not None


def test_a_jump_of_the_loss_is_a_spike_with_both_numbers() -> None:
    lines = training(1000)
    lines[-1] = {**lines[-1], "loss": 1.2}
    message = spike(History(lines), FACTS)
    assert message is not None
    assert "to 1.20; if it" in message


def test_a_jump_within_the_noise_of_single_steps_is_none() -> None:
    lines = training(1000, noise=0.2)
    middle = healthy_loss(1000)
    lines[-1] = {**lines[-1], "loss": 1.5 * middle}
    assert spike(History(lines), FACTS) is None


def test_the_first_lines_are_no_spikes() -> None:
    lines = training(200)
    lines[-1] = {**lines[-1], "loss": 9.0}
    assert spike(History(lines), FACTS) is None


@pytest.mark.parametrize(("growth", "said"), [(3, False), (30, True)])
def test_growing_gradients_are_said_when_they_are_far_beyond_healthy_ones(growth: float, said: bool) -> None:
    lines = training(2000, gradient_norm=lambda step: 0.2 * (growth if step > 1700 else 1))
    message = gradient(History(lines), FACTS)
    assert (message is not None) == said
    if message is not None:
        assert "30-fold, from 0.2 to 6; set --clip-norm 0.4" in message


def test_one_large_gradient_is_no_growth() -> None:
    lines = training(2000)
    lines[-3] = {**lines[-3], "gradient_norm": 100.0}
    assert gradient(History(lines), FACTS) is None
