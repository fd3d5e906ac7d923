"""Alarms about the quality lines of a run: a held-out sample, the features, the probe."""

from statistics import median

from openmae.training.alarms.alarm import Facts, History
from openmae.training.alarms.curves import learned_by_heart

# On fixed images with fixed masks the held-out loss has no noise but that of the weights, and falls from measurement to
# measurement in healthy runs. On 32 images it was 9 % above its best at the second measurement after that.
RISEN = 0.05
# So many measurements in a row must show it.
IN_A_ROW = 2
# How many lines of training are averaged for the loss beside a measurement.
LINES = 10

# RankMe falls to a few directions when features collapse; in healthy runs it rises, or
# falls by a few per cent.
RANK_LEFT = 0.5
FEWEST_RANKS = 4

# A probe that has not gained half a point has not moved, neither its best figure nor, because that is noisy on small
# samples, its median. That is judged over a fifth of the run, by at least five measurements, and only while a fifth or
# more is still to come: at the end of every cosine the figures come to rest.
SETTLED_POINTS = 0.5
SETTLED_SHARE = 0.2
SETTLED_MEASUREMENTS = 5


def overfitting(history: History, facts: Facts) -> str | None:
    """The loss on held-out images rises while that of the training falls."""
    measured = history.held_out
    if not measured:
        return learned_by_heart(history, facts)
    losses = [line["quality/loss"] for line in measured]
    best = losses.index(min(losses))
    if len(losses) - best <= IN_A_ROW or min(losses[-IN_A_ROW:]) <= (1 + RISEN) * losses[best]:
        return None
    then, now = (_training_loss(history, measured[index]["step"]) for index in (best, -1))
    if then is None or now is None or now >= then:
        return None
    step, epoch = measured[best]["step"], measured[best]["epoch"]
    return (
        f"held-out loss has risen from {losses[best]:#.3g} at step {step:.0f} to {losses[-1]:#.3g} while the training "
        f"loss fell from {then:#.3g} to {now:#.3g}; train on more images (now {facts.images:,}), or stop near epoch "
        f"{max(1, round(epoch))}"
    )


def rank(history: History, facts: Facts) -> str | None:
    """The features lose directions."""
    ranks = [line["quality/rank"] for line in history.quality if "quality/rank" in line]
    if len(ranks) < FEWEST_RANKS:
        return None
    smoothed = [median(ranks[end - 3 : end]) for end in range(3, len(ranks) + 1)]
    highest, now = max(smoothed), smoothed[-1]
    if now >= RANK_LEFT * highest:
        return None
    return (
        f"rank of the features has fallen from {highest:.0f} to {now:.0f}: they collapse to few directions; lower "
        f"--base-lr (now {facts.base_lr:g}), and go on from a checkpoint of before"
    )


def settled(history: History, facts: Facts) -> str | None:
    """The probe does not move any more, though much of the run is to come."""
    measured = [line for line in history.quality if "quality/probe" in line]
    if not measured:
        return None
    epoch, span = measured[-1]["epoch"], SETTLED_SHARE * facts.epochs
    left = facts.epochs - epoch
    before = [line["quality/probe"] for line in measured if line["epoch"] <= epoch - span]
    since = [line["quality/probe"] for line in measured if line["epoch"] > epoch - span]
    if len(before) < SETTLED_MEASUREMENTS or len(since) < SETTLED_MEASUREMENTS or left < span:
        return None
    best, usual = max(before), median(before[-len(since) :])
    if max(since) > best + SETTLED_POINTS or median(since) > usual + SETTLED_POINTS:
        return None
    still = next(line["epoch"] for line in measured if line["quality/probe"] >= usual - SETTLED_POINTS)
    return (
        f"the probe ({measured[-1]['quality/probe']:.1f} %) has not moved for {epoch - still:.0f} epochs; stop here, "
        f"or start again with about --epochs {max(1, round(still + span))}, whose falling rate may add some points"
    )


def _training_loss(history: History, step: float) -> float | None:
    """The loss of the training up to this step; None when no line that is left is that old."""
    losses = [line["loss"] for line in history.trained if line["step"] <= step and "loss" in line]
    return median(losses[-LINES:]) if losses else None
