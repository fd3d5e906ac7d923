"""One save, as a child does it: the only place that knows the product's function for it."""

import mmap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MESSAGE_BYTES = 1 << 16
SAVE = "tests.faults.saving:save_once"
IN_PEACE, IN_A_HURRY = "in peace", "in a hurry"
KINDS = (IN_PEACE, IN_A_HURRY)
KEEP = 1
"""The harshest there is: a save that is not safe leaves nothing when it deletes all older checkpoints."""


def write(folder: Path, step: int, *, keep: int = KEEP, in_a_hurry: bool = False) -> None:
    """Save a checkpoint with the contents that belong to `step`, as the loop does, in a hurry after a signal."""
    from openmae.checkpoints.writing import write_checkpoint

    metadata = {"recipe": "faults"}
    write_checkpoint(folder, step, contents(step), metadata=metadata, keep=keep, in_a_hurry=in_a_hurry)


def contents(step: int) -> Any:
    """A small checkpoint with everything a real one has; different for each step."""
    import torch

    from openmae.checkpoints.checkpoint import Checkpoint

    generator = torch.Generator().manual_seed(step)
    model = {f"blocks.{n}.weight": torch.randn(24, 24, generator=generator) for n in range(4)}
    moments = {
        name: {"exp_avg": torch.randn(24, 24, generator=generator), "step": torch.tensor(float(step))} for name in model
    }
    return Checkpoint(model=model, ema=None, optimizer=moments, state={"pending_losses": [0.1 * step]})


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
    """Whether two checkpoints are equal bit for bit; the step in the state aside, which saving adds."""
    states = [{**value.state, "step": None} for value in (checkpoint, other)]
    return states[0] == states[1] and all(
        _equal(getattr(checkpoint, part), getattr(other, part)) for part in ("model", "ema", "optimizer")
    )


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
    VERBS["save"] = Verb(lambda: write(folder, step, in_a_hurry=arguments[3] == IN_A_HURRY))
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = cli.main(["save"])
    text = said.getvalue().encode()[:MESSAGE_BYTES]
    message[: len(text)] = text
    with contextlib.suppress(OSError):
        (gate / "done").touch()
    return code
