"""Stop after every step and go on with other numbers of loader processes; count the traces, and the samples seen."""

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.job import (
    BATCH,
    CHECKPOINTS,
    CLI,
    ENCODER,
    EPOCHS,
    IMAGES,
    METRICS,
    STEPS,
    Trace,
    command,
    losses,
    openmae,
    tensors_sha256,
)
from tests.faults.zygote import Zygote

WORKERS = (0, 1, 2, 4)
PER_EPOCH = IMAGES // BATCH
LOG_SAMPLES = "tests.faults.resuming:log_samples"
SAMPLES = "FAULTS_SAMPLES"


@dataclass(frozen=True, kw_only=True)
class ResumeResult:
    """Runs that went on from a step with a number of loader processes; `traces` counts different ones, 1 is right."""

    steps: int
    workers: tuple[int, ...]
    runs: int
    traces: int
    failed: int
    failures: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SampleResult:
    """Images of each epoch of runs that were killed and continued: how often one was left out or taken twice."""

    runs: int
    kills: int
    samples: int
    missing: int
    repeated: int
    order_changed: int


def measure_resuming(
    zygote: Zygote,
    images: Path,
    folder: Path,
    *,
    steps: Sequence[int] = range(1, STEPS + 1),
    workers: Sequence[int] = WORKERS,
    hooks: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda _: None,
) -> ResumeResult:
    """Go on after each of these steps with each number of loader processes."""
    whole = folder / "whole"
    every = command(images, whole, keep=STEPS + 1)
    code = zygote.run(CLI, every, log=folder / "whole.log", hooks=hooks)
    assert code == 0, (folder / "whole.log").read_text()
    traces = {_trace(whole)}
    failures: list[str] = []
    failed = 0
    for step in steps:
        for number in workers:
            out, log = folder / f"from-{step}-{number}", folder / f"from-{step}-{number}.log"
            _stopped_after(whole, out, step)
            code = zygote.run(CLI, command(images, out, workers=number), log=log, hooks=hooks)
            if code:
                failed += 1
                failures.append(f"step {step}, {number} workers: {log.read_text()[-300:]}")
                continue
            found = _trace(out)
            if found not in traces:
                failures.append(f"step {step}, {number} workers: another trace")
            traces.add(found)
            shutil.rmtree(out)
        say(f"resumed from step {step}: {len(traces)} traces, {failed} failed")
    return ResumeResult(
        steps=len(steps),
        workers=tuple(workers),
        runs=len(steps) * len(workers),
        traces=len(traces),
        failed=failed,
        failures=tuple(failures),
    )


def _trace(out: Path) -> Trace:
    return Trace(tuple(losses(out)), tensors_sha256(out / ENCODER))


def _stopped_after(whole: Path, out: Path, step: int) -> None:
    """A run folder as `whole` was after `step`, copied from it; later lines of its log are left, as after a crash."""
    name = f"step-{step:08d}"
    shutil.copytree(whole / CHECKPOINTS / name, out / CHECKPOINTS / name)
    shutil.copy(whole / "recipe.yaml", out)
    lines = (whole / METRICS).read_text().splitlines(keepends=True)
    (out / METRICS).write_text("".join(line for line in lines if json.loads(line)["step"] <= step + 2))


def measure_samples(
    zygote: Zygote,
    images: Path,
    folder: Path,
    *,
    runs: int,
    seed: int = 0,
    hooks: tuple[str, ...] = (),
    say: Callable[[str], None] = lambda _: None,
) -> SampleResult:
    """Kill each run three times at random moments, and count the images of all its steps."""
    rng, contender, duration = random.Random(seed), openmae(images), 0.0
    reference: list[list[int]] | None = None
    kills = samples = missing = repeated = changed = 0
    for run in range(runs + 1):  # the first one is left alone and says what the order should be, and how long it takes
        out, began = folder / f"samples-{run}", time.monotonic()
        used: dict[int, list[int]] = {}
        for attempt in range(4):
            first, seen = contender.saved(out), folder / f"samples-{run}-{attempt}.jsonl"
            child = zygote.start(
                contender.target,
                contender.arguments(out),
                log=folder / "samples.log",
                hooks=[*hooks, LOG_SAMPLES],
                environment={SAMPLES: str(seen)},
            )
            if run and attempt < 3:
                time.sleep(rng.uniform(0.3, 1) * duration * (attempt + 1) / 4)
                child.kill()
            code = child.wait()
            kills += code == -9
            # A step that is done again replaces what was seen of it, and all after it.
            used = {step: batch for step, batch in used.items() if step < first}
            used |= dict(enumerate(_read(seen), first))
            if code == 0:
                break
        order = [used.get(step, []) for step in range(STEPS)]
        if reference is None:
            reference, duration = order, time.monotonic() - began
        changed += order != reference
        for epoch in range(EPOCHS):
            drawn = Counter(image for batch in order[epoch * PER_EPOCH : (epoch + 1) * PER_EPOCH] for image in batch)
            samples += drawn.total()
            missing += IMAGES - len(drawn)
            repeated += drawn.total() - len(drawn)
        shutil.rmtree(out)
        say(f"samples of run {run}: {kills} kills, {missing} missing, {repeated} repeated")
    return SampleResult(
        runs=runs, kills=kills, samples=samples, missing=missing, repeated=repeated, order_changed=changed
    )


def _read(seen: Path) -> list[list[int]]:
    lines = seen.read_text().splitlines(keepends=True) if seen.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def log_samples() -> None:
    """In a child: write the images of every batch that is trained on to the file that the environment names."""
    import os

    from openmae.training import pretraining

    make = pretraining.reconstruction_loss
    file = Path(os.environ[SAMPLES]).open("a")  # noqa: SIM115  # as long as the child lives

    def logging(recipe: object, model: object) -> object:
        loss = make(recipe, model)  # type: ignore[arg-type]

        def logged(wrapped: object, batch: object) -> object:
            file.write(json.dumps(batch.indices.tolist()) + "\n")  # type: ignore[attr-defined]
            file.flush()
            return loss(wrapped, batch)  # type: ignore[arg-type]

        return logged

    pretraining.reconstruction_loss = logging  # type: ignore[assignment]
