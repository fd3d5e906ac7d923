"""Alarms about the curves of loss and gradient. Every threshold stands with the reason for it; docs/curves.md has runs
on both sides of each."""

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from openmae.training.alarms.alarm import MOST_LINES, Facts, History, Line

# A network that has learned nothing is within sampling noise of the mean; on noise, 1.00 of it. Runs on images are
# below 0.85 of it, and below the nearest visible patch, after 150 steps (CIFAR-10).
NOTHING_LEARNED = 0.97
# Where copying a patch gets this share of that, patches are so alike that it is no sign of ignorance.
NO_TASK = 0.5
# The window has no trend: its last third is less than this share below its first. The median of five lines is known to
# half of that; healthy runs that are still that high fall by 20 % and more.
FLAT = 0.02
# So many steps must show it, in at least so many lines: of fewer, the median is noise.
STUCK_STEPS, STUCK_LINES = 300, 10
# A long warm-up starts with rates that teach nothing. Only after as many steps as these at the full rate is it judged.
FULL_RATE_STEPS = 100.0

# Natural images end at 0.3 to 0.6 of the trivial loss, and what they hide cannot be known better. A tenth of the best
# of these is beyond what images allow, for targets normalised per patch.
IMPOSSIBLE = 0.05
# Pixels as they are are easier: of smooth images (X-rays, skies) a few per cent remain.
IMPOSSIBLE_RAW = 0.01
# Nor can it be that much better than to interpolate smoothly, where quality lines have that.
IMPOSSIBLE_BESIDE_SMOOTH = 0.25
# Every patch of an image is hidden at some time: learned by heart can be what was seen more often than this.
BY_HEART = 100

# A loss this many (scaled median absolute) deviations above the median, and by this share, is no noise of batches. In
# healthy runs lines of 10 or 20 steps are at most 2.1 % and 4.7 deviations above it; single steps are noisier.
SPIKE_DEVIATIONS, SPIKE_SHARE = 10.0, 0.25
SPIKE_LINES, FEWEST_LINES = 20, 10

# In healthy runs the median of ten norms rises to at most 1.7 times its lowest value.
GROWTH = 10.0
NORMS = 10


def stuck(history: History, facts: Facts) -> str | None:
    """The loss stays at what a trivial predictor gets."""
    trivial, lines = _trivial(history, facts), history.newest(MOST_LINES)
    if trivial is None or len(lines) < STUCK_LINES + 1:
        return None
    last = lines[-1]
    window = [line for line in lines if line["step"] > last["step"] - STUCK_STEPS]
    window = lines[-max(len(window), STUCK_LINES) :]
    before = lines[-len(window) - 1]["step"] if len(lines) > len(window) else 0.0
    if last["step"] - before < STUCK_STEPS or _full_rate_steps(lines, facts) < FULL_RATE_STEPS:
        return None
    losses = [line["loss"] for line in window]
    third = max(1, len(losses) // 3)
    middle, falls = median(losses), median(losses[-third:]) < (1 - FLAT) * median(losses[:third])
    if falls or middle < trivial.loss:
        return None
    steps = round(last["step"] - before)
    return (
        f"loss {middle:.2f} has been no better than {trivial.predictor} ({trivial.known:.2f}) for {steps} steps; "
        f"lower --base-lr (now {facts.base_lr:g}), or check that the images are neither noise nor all alike"
    )


def leak(history: History, facts: Facts) -> str | None:
    """Hidden patches are predicted better than they can be known from the visible ones."""
    lines = history.newest(FEWEST_LINES)
    if facts.trivial is None or len(lines) < FEWEST_LINES:
        return None
    loss = median([line["loss"] for line in lines])
    if not _impossible(loss, facts) or _by_heart(history, facts):
        return None
    smooth = history.quality[-1].get("quality/smooth") if history.quality else None
    if smooth is not None and loss >= IMPOSSIBLE_BESIDE_SMOOTH * smooth:
        return None
    return (
        f"loss {loss:.2g} is {100 * loss / facts.trivial:.1g} % of what predicting the mean gives, better than hidden "
        "patches can be guessed; look for images that repeat a tile, or for bands that are copies of another"
    )


def spike(history: History, facts: Facts) -> str | None:
    """The loss jumps."""
    losses = [line["loss"] for line in history.newest(SPIKE_LINES + 1)]
    if len(losses) <= FEWEST_LINES:
        return None
    before, last = np.asarray(losses[:-1]), losses[-1]
    middle = float(np.median(before))
    deviation = 1.4826 * float(np.median(np.abs(before - middle)))  # of normally distributed values, their sigma
    if last <= middle + max(SPIKE_DEVIATIONS * deviation, SPIKE_SHARE * middle):
        return None
    return (
        f"loss has jumped from {middle:#.3g} to {last:#.3g}; if it stays high or does so again, lower --base-lr (now "
        f"{facts.base_lr:g}) or set --clip-norm 1"
    )


def gradient(history: History, facts: Facts) -> str | None:
    """The gradient grows, as it does before a run diverges."""
    norms = [line["gradient_norm"] for line in history.series("gradient_norm")]
    blocks = len(norms) // NORMS
    if blocks < 2:
        return None
    medians = np.median(np.asarray(norms[len(norms) - blocks * NORMS :]).reshape(blocks, NORMS), axis=1)
    lowest, now = float(medians.min()), float(medians[-1])
    if not math.isfinite(now) or now <= GROWTH * lowest:
        return None
    return (
        f"gradient norm has grown {now / lowest:.0f}-fold, from {lowest:.2g} to {now:.2g}; set --clip-norm "
        f"{_one_digit(2 * lowest)}, or lower --base-lr (now {facts.base_lr:g}) before the run diverges"
    )


def learned_by_heart(history: History, facts: Facts) -> str | None:
    """The loss is next to 0 because each image was seen very often; for runs that hold out no images."""
    lines = history.newest(FEWEST_LINES)
    if facts.trivial is None or len(lines) < FEWEST_LINES or history.held_out:
        return None
    loss = median([line["loss"] for line in lines])
    if not _impossible(loss, facts) or not _by_heart(history, facts):
        return None
    return (
        f"loss {loss:.2g} is {100 * loss / facts.trivial:.1g} % of what predicting the mean gives, after each of the "
        f"{facts.images:,} images was seen {lines[-1]['step'] * facts.batch_size / facts.images:,.0f} "
        "times: they are learned by heart; add images, or train for fewer epochs"
    )


def _impossible(loss: float, facts: Facts) -> bool:
    """Whether images that are not known by heart do not allow such a loss."""
    assert facts.trivial is not None
    return loss < (IMPOSSIBLE if facts.normalised else IMPOSSIBLE_RAW) * facts.trivial


def _by_heart(history: History, facts: Facts) -> bool:
    """Whether a loss near 0 means that the images were learned by heart.

    Where images are held out, they tell: a loss that is as low on them is a leak. Else the number of times tells.
    """
    (last,), held_out = history.newest(1), history.held_out
    if held_out:
        return held_out[-1]["quality/loss"] > 3 * last["loss"]
    return last["step"] * facts.batch_size > BY_HEART * facts.images


class _Trivial(NamedTuple):
    """A trivial predictor, its loss, and the loss above which a network knows no more than it."""

    predictor: str
    known: float
    loss: float


def _trivial(history: History, facts: Facts) -> _Trivial | None:
    """The better one of the mean and, where quality lines have that, the nearest visible patch.

    Not the smooth interpolation: where images are smooth apart from noise it is all that can be known.
    """
    known = (
        []
        if facts.trivial is None
        else [_Trivial("predicting the mean", facts.trivial, NOTHING_LEARNED * facts.trivial)]
    )
    nearest = history.quality[-1].get("quality/nearest", 0.0) if history.quality else 0.0
    if facts.trivial is not None and nearest > NO_TASK * facts.trivial:
        known.append(_Trivial("copying the nearest visible patch", nearest, nearest))
    return min(known, key=lambda one: one.loss, default=None)


def _full_rate_steps(lines: Sequence[Line], facts: Facts) -> float:
    """The steps so far, each counted by its share of the highest rate."""
    if len(lines) == MOST_LINES:  # older ones are forgotten, and do not matter any more
        return math.inf
    steps = np.diff([0.0, *(line["step"] for line in lines)])
    rates = np.asarray([line.get("lr", facts.lr) for line in lines])
    return float((steps * rates).sum() / facts.lr) if facts.lr else 0.0


def _one_digit(value: float) -> str:
    return f"{float(f'{value:.0e}'):g}"
