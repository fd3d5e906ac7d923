"""One save, as a child does it: the only place that knows the product's function for it."""

import mmap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MESSAGE_BYTES = 1 << 16
SAVE = "tests.faults.saving:save_once"
WAITED, BEFORE_EXIT = "waited", "before exit"
MODES = (WAITED, BEFORE_EXIT)
"""The product's ways to save as it names them: in the background it makes the same calls as when it is waited for."""
KEEP = 1
"""The harshest there is: a save that is not safe leaves nothing when it deletes all older checkpoints."""


def write(folder: Path, step: int, *, keep: int = KEEP, mode: str = WAITED) -> None:
    """Save a checkpoint with the contents that belong to `step`, as the training does."""
    from openmae.checkpoints.save_mode import SaveMode
    from openmae.checkpoints.writing import write_checkpoint

    write_checkpoint(folder, contents(step), metadata={"recipe": "faults"}, keep=keep, mode=SaveMode(mode))


def contents(step: int) -> Any:
    """A small checkpoint with everything a real one has; different for each step."""
    import torch

    from openmae.checkpoints.checkpoint import Checkpoint

    generator = torch.Generator().manual_seed(step)
    model = {f"blocks.{n}.weight": torch.randn(24, 24, generator=generator) for n in range(4)}
    moments = {
        name: {"exp_avg": torch.randn(24, 24, generator=generator), "step": torch.tensor(float(step))} for name in model
    }
    return Checkpoint(step=step, model=model, optimizer=moments, pending_losses=[0.1 * step])


def found(folder: Path) -> int | None:
    """The step of the newest verified checkpoint, None when there is none; AssertionError for other contents."""
    from openmae.checkpoints.reading import newest_verified, read_checkpoint

    path = newest_verified(folder)
    if path is None:
        return None
    step = int(path.name.removeprefix("step-"))
    assert same(read_checkpoint(path), contents(step)), f"{path} is verified and holds something else than was saved"
    return step


def same(checkpoint: Any, other: Any) -> bool:
    """Whether two checkpoints are equal bit for bit."""
    import dataclasses

    names = [field.name for field in dataclasses.fields(checkpoint)]
    return all(_equal(getattr(checkpoint, name), getattr(other, name)) for name in names)


def _equal(a: Any, b: Any) -> bool:
    import torch

    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return bool(a == b)


def save_once(arguments: list[str]) -> int:
    """In a child: announce itself, wait until it is watched, save one step, say how that went.

    What it says goes into mapped memory, which takes no system call that could be made to fail as well. The error is
    worded by the product's command line.

    Args:
        arguments: the folder of checkpoints, the step, a folder to announce itself in, and how to save.
    """
    import contextlib
    import io

    import torch

    from openmae import cli
    from openmae.verbs import VERBS, Verb

    folder, step, gate = Path(arguments[0]), int(arguments[1]), Path(arguments[2])
    torch.set_num_threads(1)
    contents(step)
    with contextlib.redirect_stderr(io.StringIO()):
        cli.main(["warm"])  # what is imported to print must not meet the disturbed disk
    with (gate / "message").open("r+b") as file:
        message = mmap.mmap(file.fileno(), MESSAGE_BYTES)
    (gate / "ready").touch()
    while not (gate / "go").exists():
        time.sleep(0.0005)
    VERBS["save"] = Verb(lambda: write(folder, step, mode=arguments[3]))
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = cli.main(["save"])
    text = said.getvalue().encode()[:MESSAGE_BYTES]
    message[: len(text)] = text
    with contextlib.suppress(OSError):
        (gate / "done").touch()
    return code
