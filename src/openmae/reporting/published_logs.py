"""Training logs that others published, as our metrics.jsonl: a JSON object a line, so that curves can be compared.

| ours | OpenMMLab 1.x | OpenMMLab 0.x | fair |
|---|---|---|---|
| step | step | iter, if it counts through all epochs | unknown: left out |
| epoch: epochs that are complete | epoch - 1 | epoch - 1 | epoch + 1 |
| loss, lr | loss, lr | loss, lr | train_loss, train_lr |
| gradient_norm | grad_norm | grad_norm | |
| top1, top5 | accuracy/top1, accuracy/top5 | accuracy_top-1, accuracy_top-5 | test_acc1, test_acc5 |

Everything else keeps its own name. In the line of an evaluation OpenMMLab's step is the epoch; ours is the step of the
training line before it, and there is no epoch, as in our own runs. A line without a loss or an accuracy is left out.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from openmae.checkpoints.names import METRICS
from openmae.errors import UserError
from openmae.files import write_text
from openmae.recipes.zoo import ZOO, find_published
from openmae.reporting.zoo import ZooLog
from openmae.weights.fetching import fetch_log

Record = dict[str, Any]
MM_NAMES = {
    "grad_norm": "gradient_norm",
    "accuracy/top1": "top1",
    "accuracy/top5": "top5",
    "accuracy_top-1": "top1",
    "accuracy_top-5": "top5",
}
FAIR_NAMES = {"train_loss": "loss", "train_lr": "lr", "test_acc1": "top1", "test_acc5": "top5"}
FIRST = ("step", "epoch", "loss", "lr")


class Curves(NamedTuple):
    """A log in our form."""

    records: list[Record]
    left_out: int
    """Number of lines without figures."""

    @property
    def has_steps(self) -> bool:
        return any("step" in record for record in self.records)


def read_log(lines: Iterable[str], place: str) -> Curves:
    """The records of a log of OpenMMLab or fair.

    Args:
        lines: a JSON object each.
        place: where they come from, for messages.

    Raises:
        UserError: when no line has a loss or an accuracy.
    """
    found = [_parse(line) for line in lines if line.strip()]
    total = len(found)
    figures = [record for record in found if _is_fair(record) or "loss" in record or _has_accuracy(record)]
    if not figures:
        raise UserError(
            f"{place} has no line with a loss or an accuracy; give a log of OpenMMLab or fair with a JSON object a line"
        )
    if any(_is_fair(record) for record in figures):
        return Curves([_ordered(_from_fair(record)) for record in figures], total - len(figures))
    return Curves([_ordered(record) for record in _from_mm(figures)], total - len(figures))


def write_log(name: str, out: Path | None) -> ZooLog:
    """Write the log of a published row, or a log file, as a metrics.jsonl.

    Raises:
        UserError: when there is no such log, or `out` exists.
    """
    given = Path(name)
    file = given if name not in ZOO and given.is_file() else fetch_log(find_published(name))
    out = Path(given.stem if file == given else name, METRICS) if out is None else out
    if out.exists():
        raise UserError(f"{out} exists already; remove it or give another --out")
    with file.open(encoding="utf-8", errors="replace") as lines:
        curves = read_log(lines, str(file))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, "".join(json.dumps(record) + "\n" for record in curves.records))
    return {
        "name": name,
        "lines": len(curves.records),
        "left_out": curves.left_out,
        "has_steps": curves.has_steps,
        "out": str(out),
    }


def _from_fair(record: Record) -> Record:
    renamed = {FAIR_NAMES.get(name, name): value for name, value in record.items()}
    return {**renamed, "epoch": record["epoch"] + 1} if isinstance(record.get("epoch"), int) else renamed


def _from_mm(records: list[Record]) -> list[Record]:
    steps = [_count(record) for record in records if _is_training(record)]
    # In 0.x iter may begin anew with each epoch, and the length of an epoch is not written.
    counted = None not in steps and steps == sorted({step for step in steps if step is not None})
    converted, last = [], 0
    for record in records:
        ours = {MM_NAMES.get(name, name): value for name, value in record.items() if name != "epoch"}
        if _is_training(record):
            last = _count(record) or 0
            if isinstance(record.get("epoch"), int):
                ours["epoch"] = record["epoch"] - 1
        if counted:
            ours["step"] = last
            ours.pop("iter", None)
        converted.append(ours)
    return converted


def _is_training(record: Mapping[str, Any]) -> bool:
    return "loss" in record and record.get("mode") != "val"


def _count(record: Mapping[str, Any]) -> int | None:
    """The steps that the line itself gives."""
    count = record.get("step", record.get("iter"))
    return count if isinstance(count, int) else None


def _has_accuracy(record: Mapping[str, Any]) -> bool:
    return any(name.startswith("accuracy") for name in record)


def _is_fair(record: Mapping[str, Any]) -> bool:
    return any(name in record for name in FAIR_NAMES)


def _ordered(record: Record) -> Record:
    return {name: record[name] for name in (*FIRST, *record) if name in record}


def _parse(line: str) -> Record:
    """A line's object; an empty one for a line that is none, such as the first of OpenMMLab 0.x."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
