import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmae.recipes import PretrainRecipe, find_recipe
from openmae.training.schedules import Schedule, learning_rate, warmup_cosine


def test_warmup_is_linear_and_then_half_a_cosine() -> None:
    rates = [learning_rate(step, peak=2.0, floor=0.0, total_steps=12, warmup_steps=4) for step in range(13)]
    cosine = [1 + math.cos(math.pi * step / 8) for step in range(9)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 1.5, *cosine])
    assert rates[8] == pytest.approx(1.0)  # half way down after half of the cosine


def test_cosine_ends_at_the_floor_and_passes_the_middle_between_floor_and_peak() -> None:
    rates = [learning_rate(step, peak=2.0, floor=0.5, total_steps=10, warmup_steps=2) for step in (2, 6, 10)]
    assert rates == pytest.approx([2.0, 1.25, 0.5])


def test_floor_does_not_lift_the_warmup() -> None:
    assert learning_rate(0, peak=2.0, floor=0.5, total_steps=10, warmup_steps=4) == 0.0
    assert learning_rate(1, peak=2.0, floor=0.5, total_steps=10, warmup_steps=4) == 0.5


def test_fair_warms_up_from_zero_and_mm_from_a_ten_thousandth_of_the_peak() -> None:
    fair = [learning_rate(step, peak=2.4e-3, floor=0.0, total_steps=100, warmup_steps=10) for step in (0, 5)]
    mm = [
        learning_rate(step, peak=2.4e-3, floor=0.0, total_steps=100, warmup_steps=10, warmup_start=1e-4)
        for step in (0, 5)
    ]
    assert fair == pytest.approx([0.0, 1.2e-3])
    assert mm == pytest.approx([2.4e-7, 2.4e-3 * (1e-4 + 0.5 * (1 - 1e-4))])


def test_progress_says_whether_warmup_is_over() -> None:
    over = [warmup_cosine(step, total_steps=4, warmup_steps=2)[1] for step in range(4)]
    assert over == [False, False, True, True]


def test_without_warmup_the_first_step_is_at_the_peak() -> None:
    assert learning_rate(0, peak=3.0, floor=0.0, total_steps=5, warmup_steps=0) == 3.0


@given(
    total=st.integers(1, 300),
    share=st.floats(0, 1),
    peak=st.floats(1e-6, 10),
    floor_share=st.floats(0, 1),
    warmup_start=st.floats(0, 1),
)
def test_rate_rises_to_the_peak_then_falls_to_the_floor(
    total: int, share: float, peak: float, floor_share: float, warmup_start: float
) -> None:
    warmup, floor = round(share * total), floor_share * peak
    rates = [
        learning_rate(step, peak=peak, floor=floor, total_steps=total, warmup_steps=warmup, warmup_start=warmup_start)
        for step in range(total + 1)
    ]
    rising, falling = rates[: warmup + 1], rates[warmup:]
    slack = 1e-12 * peak
    assert all(after >= before - slack for before, after in pairwise(rising))
    assert all(after <= before + slack for before, after in pairwise(falling))
    assert rates[warmup] == pytest.approx(peak)
    assert rates[-1] == pytest.approx(peak if warmup == total else floor)


@pytest.mark.parametrize(("warmup", "ramp"), [(1, [0, 0.25, 0.5, 0.75, 1]), (0, [1, 1, 1, 1, 1])])
def test_a_frozen_encoder_has_the_rate_0_and_then_warms_up_to_that_of_the_decoder(
    warmup: int, ramp: list[float]
) -> None:
    recipe = find_recipe("cifar10")
    assert isinstance(recipe, PretrainRecipe)
    recipe = replace(recipe, epochs=10, warmup_epochs=warmup, encoder_frozen_epochs=2.0)
    schedule = Schedule(recipe=recipe, steps_per_epoch=4)
    plain = Schedule(recipe=replace(recipe, encoder_frozen_epochs=0.0), steps_per_epoch=4)
    rates = [schedule.rates(step, [{"frozen_at_first": True}, {}]) for step in range(40)]
    assert [others for _, others in rates] == [plain.rates(step, [{}])[0] for step in range(40)]
    assert [encoder for encoder, _ in rates[:8]] == [0] * 8
    assert [encoder / others for encoder, others in rates[8:13]] == pytest.approx(ramp)
    assert [encoder for encoder, _ in rates[13:]] == [others for _, others in rates[13:]]
