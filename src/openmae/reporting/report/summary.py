"""What a run was and whether it helped, in plain words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from openmae.reporting.report.data_set import places_of
from openmae.reporting.report.measured import Row, number
from openmae.reporting.run_files import RunFiles

Verdict = Literal["yes", "no", "unknown"]
TRIVIAL = {
    "quality/own_mean": "the mean of each patch",
    "quality/nearest": "a copy of the nearest visible patch",
    "quality/smooth": "smooth interpolation",
    "quality/constant": "the best constant",
}
"""The predictors that learn nothing, in words."""
CLEARLY = 1.0
"""A difference in per cent from which on pre-training is said to have helped or harmed."""
STATES = {
    "running": "It is still running.",
    "stopped": "It was stopped before its end; the same command continues it.",
    "crashed": "It ended with an error before its end; log.txt in its folder says why.",
}


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Something that went wrong, or might, at a step of the training."""

    step: int
    message: str
    good: bool
    """Whether it is advice and no fault."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A figure to see at a glance: its name, its value, and a word about it."""

    name: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The first part of the page.

    Args:
        what: what was trained on what, in sentences.
        verdict: whether pre-training helped; `answer` says it in a sentence.
        answer: that sentence.
        evidence: the loss, beside that of trivial predictors.
        tiles: figures.
        alarms: of the training.
    """

    what: list[str]
    verdict: Verdict
    answer: str
    evidence: list[str]
    tiles: list[Tile]
    alarms: list[Alarm]


def summarise(
    run: RunFiles, *, images: int | None, parameters: int | None, seconds: float | None, rows: Sequence[Row]
) -> Summary:
    """The summary of a run from what its folder holds, and from the table of measurements.

    Args:
        run: its files.
        images: that it was trained on; None when that is not known.
        parameters: of its encoder; None likewise.
        seconds: that it took; None likewise.
        rows: of the table.
    """
    training = [line for line in run.steps if number(line.get("loss")) is not None]
    last = training[-1] if training else {}
    trivial = _trivial(run.quality, bool(run.recipe.get("normalise_target")))
    verdict, answer = _verdict(rows, run.stage)
    return Summary(
        what=_what(run, last, images=images, parameters=parameters, seconds=seconds),
        verdict=verdict,
        answer=answer,
        evidence=[*_loss(training, run.stage), *trivial],
        tiles=_tiles(last, run, rows),
        alarms=[_alarm(one) for one in run.alarms],
    )


def duration(seconds: float) -> str:
    """ "22 minutes", "3.4 hours", "2 days 4 hours"."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} minutes"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} hours"
    whole = timedelta(seconds=seconds)
    return f"{whole.days} days {whole.seconds // 3600} hours"


def _what(
    run: RunFiles, last: Mapping[str, Any], *, images: int | None, parameters: int | None, seconds: float | None
) -> list[str]:
    recipe = run.recipe
    done = {"pretrain": "pre-trained", "linear": "measured by linear evaluation", "finetune": "fine-tuned"}
    verb = done.get(run.stage, "trained")
    size = "" if parameters is None else f" ({_parameters(parameters)})"
    place = ", ".join(places_of(recipe))
    on = f" on {images:,} images of {place}" if images else f" on {place}" if place else ""
    wanted, epoch = number(recipe.get("epochs")), number(last.get("epoch"))
    length = f" for {wanted:g} epochs" if wanted is not None else ""
    if wanted is not None and epoch is not None and epoch < wanted - 0.01:
        length = f" for {epoch:.1f} of {wanted:g} epochs"
    samples = number(last.get("samples"))
    seen = "" if samples is None else f": {samples:,.0f} samples"
    took = "" if seconds is None or seconds < 2 else f" in {duration(seconds)}"
    pixels = f" at {recipe['image_size']} pixels" if recipe.get("image_size") else ""
    sentences = [f"{recipe.get('backbone', 'A network')}{size} was {verb}{on}{pixels}{length}{seen}{took}."]
    if run.stage == "pretrain":
        ratio, target = number(recipe.get("mask_ratio")), bool(recipe.get("normalise_target"))
        if ratio is not None:
            sentences.append(
                f"It saw {100 - 100 * ratio:.3g} % of the patches of each image and predicted the rest"
                f"{', each patch normalised by its own mean and contrast' if target else ''}."
            )
    if run.state in STATES:
        sentences.append(STATES[run.state])
    return sentences


def _parameters(count: int) -> str:
    return f"{count / 1e6:.3g} million parameters" if count >= 1e6 else f"{count:,} parameters"


def _verdict(rows: Sequence[Row], stage: str) -> tuple[Verdict, str]:
    """Whether pre-training helped, by the differences from the untrained twin."""
    gains = [(row, row.points) for row in rows if row.points is not None]
    if not gains:
        if stage != "pretrain":
            return "unknown", "No untrained twin was measured, so nobody can say how much pre-training helped."
        return "unknown", "Whether pre-training helped has not been measured: no figure of an untrained twin was found."
    row, most = max(gains, key=lambda one: one[1])
    figure, twin = row.text(row.pretrained[0]), row.text(row.untrained)
    if most < CLEARLY:
        return (
            "no",
            f"No. In none of {len(gains)} comparisons is the pre-trained network clearly better than its untrained "
            f"twin; the best is {row.protocol} with {row.labels} of the labels: {figure} against {twin} "
            f"({row.figure}).",
        )
    lowest, least = min(gains, key=lambda one: one[1])
    harmed = least < -CLEARLY
    answer = (
        f"{'In part' if harmed else 'Yes'}. With {row.labels} of the labels, {row.protocol} gives {figure} "
        f"({row.figure}) for the pre-trained network and {twin} for the same network untrained: {_points(row)}."
    )
    if len(gains) > 1:
        answer += (
            f" The smallest difference of {len(gains)} comparisons is {_points(lowest)} ({lowest.protocol}, "
            f"{lowest.labels})."
        )
    return "unknown" if harmed else "yes", answer


def _points(row: Row) -> str:
    return f"{row.gain_text} points" if "%" in row.figure else row.gain_text


def _loss(training: Sequence[Mapping[str, Any]], stage: str) -> list[str]:
    if len(training) < 2:
        return []
    first, last = (number(record.get("loss")) for record in (training[0], training[-1]))
    if first is None or last is None:
        return []
    direction = "fell" if last < first else "rose"
    note = ""
    if stage == "pretrain" and last < first:
        note = " A lower loss alone does not mean better features: the comparison with the untrained twin decides."
    return [f"The training loss {direction} from {first:.3g} to {last:.3g}.{note}"]


def _trivial(quality: Sequence[Mapping[str, Any]], normalised: bool) -> list[str]:
    """The loss on the fixed images beside that of predictors that learn nothing."""
    if not quality:
        return []
    last = quality[-1]
    loss = number(last.get("quality/loss"))
    known = {words: value for key, words in TRIVIAL.items() if (value := number(last.get(key))) is not None}
    # Of raw pixels the mean of a hidden patch is half of the answer, which no network is told.
    own_mean = None if normalised else known.pop(TRIVIAL["quality/own_mean"], None)
    if loss is None or not known:
        return []
    words, best = min(known.items(), key=lambda one: one[1])
    listed = "; ".join(f"{words} {value:.3g}" for words, value in known.items())
    where = "images held out from training" if last.get("quality/held_out") else "training images"
    sentence = (
        f"On the same {where} with the same masks the loss is {loss:.3g}. Predictors that learn nothing: {listed}. "
    )
    if loss < 0.98 * best:
        sentence += f"The network is {100 * (1 - loss / best):.0f} % below the best of them ({words})."
    else:
        sentence += f"The network is no better than {words}: it has not learned to predict images."
    if own_mean is not None:
        sentence += f" Whoever knew the true mean of each hidden patch, and nothing else, would reach {own_mean:.3g}."
    return [sentence]


def _tiles(
    last: Mapping[str, Any],
    run: RunFiles,
    rows: Sequence[Row],
) -> list[Tile]:
    results, tiles = run.results or {}, []
    for row in (row for row in rows if row.pretrained[0] is not None):
        twin = "" if row.untrained is None else f"; untrained {row.text(row.untrained)}"
        note = f"{row.labels} of the labels{twin}"
        tiles.append(Tile(name=f"{row.protocol}, {row.figure}", value=row.text(row.pretrained[0]), note=note))
    best = {tile.name: tile for tile in tiles}  # the line with the most labels is the last of each protocol
    tiles = list(best.values())[:3]
    loss = number(last.get("loss", results.get("loss")))
    if loss is not None:
        tiles.append(Tile(name="training loss", value=f"{loss:.3g}", note="at the end"))
    rank = number(run.quality[-1].get("quality/rank")) if run.quality else None
    if rank is not None:
        tiles.append(Tile(name="effective rank", value=f"{rank:.0f}", note="of the features (RankMe)"))
    speed = number(results.get("images_per_second", last.get("images_per_second")))
    if speed is not None:
        waiting = number(last.get("waiting_for_data"))
        note = "" if waiting is None else f"{100 * waiting:.0f} % of the time waiting for data"
        tiles.append(Tile(name="images per second", value=f"{speed:,.0f}", note=note))
    return tiles


def _alarm(record: Mapping[str, Any]) -> Alarm:
    return Alarm(
        step=int(number(record.get("step")) or 0),
        message=str(record.get("message", "")),
        good=record.get("kind") == "settled",
    )
