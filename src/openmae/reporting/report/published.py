"""A published training log, to lay under one's own curves."""

from openmae.errors import UserError
from openmae.recipes.zoo import find_published
from openmae.reporting.plan.published_runs import IMAGENET
from openmae.reporting.published_logs import read_log
from openmae.reporting.report.curves import Log
from openmae.reporting.report.measured import number
from openmae.weights.fetching import ZOO_SCHEME, fetch_log


def published_curve(name: str) -> Log:
    """The log of a row of `openmae zoo`.

    Raises:
        UserError: when there is no such row, or it has no log.
    """
    if not name.startswith(ZOO_SCHEME):
        raise UserError(
            f"--beside {name} is no published log; give zoo:NAME (`openmae zoo` lists them), or another run"
        )
    entry = find_published(name.removeprefix(ZOO_SCHEME))
    file = fetch_log(entry)
    with file.open(encoding="utf-8", errors="replace") as lines:
        records = read_log(lines, str(file)).records
    # A line without an epoch is an evaluation; OpenMMLab counts complete epochs, so its points are at their ends.
    placed = [
        {**record, "samples": round(IMAGENET * epoch)} if (epoch := number(record.get("epoch"))) is not None else record
        for record in records
    ]
    return Log(name=name, records=placed, published=True)
