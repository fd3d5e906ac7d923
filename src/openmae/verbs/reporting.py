"""Verbs that show what runs have become."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from openmae.recipes.constraints import NOT_NEGATIVE
from openmae.recipes.recipe import SEED
from openmae.recipes.values import Places, as_text
from openmae.verbs.verb import verb

if TYPE_CHECKING:
    from openmae.reporting.report.writing import ReportResult


@verb
def report(
    runs: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    data: Places | None = None,
    beside: Sequence[str] = (),
    images: Annotated[int, NOT_NEGATIVE] = 400,
    seed: Annotated[int, SEED] = 0,
) -> "ReportResult":
    """Write one HTML file about runs, to read or to send: whether it helped, curves, pictures, where it fails.

    The file holds everything and loads nothing. A summary in Markdown lies beside it. Measurements of a pre-training
    are found in the run folders and JSON files (of --json) that lie beside it.

    Args:
        runs: Run folders, and JSON files that knn --json printed. The first pre-training is shown in full;
            the curves of all are laid over each other, and the differences of their recipes marked.
        out: The HTML file; report.html in the first run folder when not given.
        data: Images to look at, instead of those that the run names.
        beside: Published logs to lay under the curves: zoo:NAME (`openmae zoo` lists them).
        images: How many images the network is run over, at most; 0 leaves out the pictures.
        seed: Seed of the choice of images, and of their masks.
    """
    from openmae.reporting.report.writing import Wanted, write_report

    return write_report(
        Wanted(
            runs=[str(run) for run in runs],
            out=None if out is None else Path(out),
            data=None if data is None else as_text(data),
            beside=tuple(beside),
            images=images,
            seed=seed,
        )
    )
