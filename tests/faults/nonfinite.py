"""What is not finite, put into one process of two: pixels, the loss, a gradient, weights, the optimizer's state."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.job import CHECKPOINTS, ENCODER, LOG, METRICS, STEPS, command
from tests.faults.processes import start_ranks
from tests.faults.zygote import HUNG, Zygote

PLACES = ("pixels", "loss", "gradient", "weights", "optimizer state")
SPOIL = "tests.faults.nonfinite:spoil"


@dataclass(frozen=True, kw_only=True)
class NonFiniteResult:
    """Runs of two processes into one of which something not finite was put, `times` steps in a row or for good."""

    runs: int
    completed: int
    told: int
    rewinds: int
    corrupt_files: int
    hung: int
    failures: tuple[str, ...]


def measure_nonfinite(
    zygote: Zygote,
    images: Path,
    folder: Path,
    *,
    places: Sequence[str] = PLACES,
    ranks: Sequence[int] = (0, 1),
    times: Sequence[int] = (1, 3),
    say: Callable[[str], None] = lambda _: None,
) -> NonFiniteResult:
    """Each place, in either process, in one step and in three in a row; weights and state are spoiled for good."""
    runs = completed = told = rewinds = corrupt = hung = 0
    failures: list[str] = []
    for place in places:
        for rank in ranks:
            for many in times if place in ("pixels", "loss", "gradient") else (1,):
                out, log = folder / f"spoiled-{runs}", folder / f"spoiled-{runs}.log"
                runs += 1
                arguments = command(images, out, keep=50, more=["--save-every", "4steps"])
                children = start_ranks(zygote, arguments, log, hooks=(f"{SPOIL}_{rank}_{place.split()[0]}_{many}",))
                codes = [child.wait() for child in children]
                hung += HUNG in codes
                completed += codes == [0, 0] and _all_steps(out)
                said = (out / LOG).read_text()
                told += "was skipped: " in said or "not finite" in said
                rewinds += "going back to step" in said
                bad = [str(file.relative_to(out)) for file in _files(out) if not _finite(file)]
                corrupt += len(bad)
                if bad or codes != [0, 0]:
                    failures.append(f"{place} of rank {rank}, {many} times: {codes}, {bad}: {said[-300:]}")
                say(f"{place} of rank {rank}, {many} times: {codes}, {len(bad)} files with what is not finite")
                shutil.rmtree(out)
    return NonFiniteResult(
        runs=runs,
        completed=completed,
        told=told,
        rewinds=rewinds,
        corrupt_files=corrupt,
        hung=hung,
        failures=tuple(failures),
    )


def _all_steps(out: Path) -> bool:
    lines = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    trained = [line["step"] for line in lines if "quality/loss" not in line]
    return trained == list(range(1, STEPS + 1))


def _files(out: Path) -> list[Path]:
    return [*(out / CHECKPOINTS).rglob("*.safetensors"), *out.glob(ENCODER)]


def _finite(file: Path) -> bool:
    from safetensors.torch import load_file

    return all(bool(tensor.isfinite().all()) for tensor in load_file(file).values())


def __getattr__(name: str) -> Callable[[], None]:
    """Hooks take no arguments: `spoil_1_loss_3` puts what is not finite into the loss of rank 1 in three steps."""
    word, *rest = name.split("_")
    if word != "spoil" or len(rest) != 3:
        raise AttributeError(name)
    return lambda: _spoil(int(rest[0]), rest[1], int(rest[2]))


def _spoil(rank: int, place: str, times: int, *, first: int = 14) -> None:
    """In a child: from the step `first` on, in `times` calls of the loss, if this is that rank."""
    import torch

    from openmae.training import pretraining

    if int(os.environ["RANK"]) != rank:
        return
    make = pretraining.reconstruction_loss
    calls = 0

    def spoiling(recipe: Any, model: Any) -> Any:
        loss = make(recipe, model)

        def spoiled(wrapped: Any, batch: Any) -> Any:
            nonlocal calls
            calls += 1
            now = first <= calls < first + times
            nan = float("nan")
            if now and place == "pixels":
                images = batch.images.float()
                images[0, 0, 0, 0] = float("inf")  # NaN is no data
                batch = batch._replace(images=images)
            if now and place == "weights":
                with torch.no_grad():
                    next(model.parameters()).view(-1)[0] = nan
            value = loss(wrapped, batch)
            if now and place == "gradient":
                weight = model.encoder.norm.weight
                value = value + (weight[0] * 0.0).sqrt()
            return value * nan if now and place == "loss" else value

        return spoiled

    pretraining.reconstruction_loss = spoiling
    if place == "optimizer":
        step = torch.optim.AdamW.step
        steps = 0

        def spoil_state(self: Any, *arguments: Any) -> Any:
            nonlocal steps
            result = step(self, *arguments)
            steps += 1
            if steps == first:
                state = next(values for values in self.state.values() if "exp_avg" in values)
                state["exp_avg"].view(-1)[0] = float("inf")
            return result

        torch.optim.AdamW.step = spoil_state  # type: ignore[assignment, method-assign]
