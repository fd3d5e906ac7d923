import errno
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from openmae.checkpoints.checkpoint import MANIFEST, MODEL, Checkpoint, GivenUp, list_checkpoints
from openmae.checkpoints.names import BAD_IMAGES, ENCODER, LOG, METRICS
from openmae.checkpoints.reading import read_checkpoint
from openmae.checkpoints.save_mode import SaveMode
from openmae.checkpoints.writing import write_checkpoint
from openmae.data.batches import Batch
from openmae.recipes import FinetuneRecipe, PretrainRecipe, Recipe, find_recipe
from openmae.recipes.values import Every
from openmae.training import state, trainer
from openmae.training.observers import saving
from openmae.training.processes import agreement
from openmae.training.processes.devices import numerics
from openmae.training.processes.stopping import Interrupted
from openmae.training.schedules import learning_rate
from tests.training.toy import (
    BATCH,
    IMAGES,
    STEPS,
    STEPS_PER_EPOCH,
    Crash,
    Toy,
    Watch,
    assert_same_run,
    linear_recipe,
    metrics,
    saving_always,
    steps_saved,
    toy_loss,
    train,
    weights,
)

pytestmark = pytest.mark.usefixtures("no_syncing")

# ------------------------------------------------------------------------------------------------- continuing

VARIANTS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "muon": {"optimizer": "muon"},
    "average": {"ema_decay": 0.8},
    "accumulated": {"accumulate": 2},
    "clipped": {"clip_norm": 0.05},
    "sparsely-logged": {"log_every": 5},
    "another-seed": {"seed": 123},
}


@pytest.mark.parametrize(("variant", "after"), [*((variant, 4) for variant in VARIANTS), ("adamw", 1), ("adamw", 9)])
def test_a_crashed_run_continues_bit_for_bit(recipe: PretrainRecipe, tmp_path: Path, variant: str, after: int) -> None:
    recipe = replace(recipe, **VARIANTS[variant])
    train(recipe, tmp_path / "straight")
    with pytest.raises(RuntimeError, match="power cut"):
        train(saving_always(recipe), tmp_path / "crashed", loss=Crash(after * recipe.accumulate))
    assert read_checkpoint(list_checkpoints(tmp_path / "crashed" / "checkpoints")[0]).step == after
    rest = Crash(10**6)
    train(recipe, tmp_path / "crashed", loss=rest)
    assert rest.calls == (STEPS - after) * recipe.accumulate
    assert_same_run(tmp_path / "straight", tmp_path / "crashed")


@pytest.mark.parametrize("lr_in_momentum", [False, True])
def test_a_crashed_linear_evaluation_continues_bit_for_bit(images: Path, tmp_path: Path, lr_in_momentum: bool) -> None:
    recipe = linear_recipe(images, base_lr=100.0, lr_in_momentum=lr_in_momentum, scale_bias_lr=True)
    train(recipe, tmp_path / "straight")
    with pytest.raises(RuntimeError, match="power cut"):
        train(saving_always(recipe), tmp_path / "crashed", loss=Crash(8))
    train(recipe, tmp_path / "crashed")
    assert_same_run(tmp_path / "straight", tmp_path / "crashed")


def test_a_checkpoint_has_the_state_of_its_step_however_slow_the_disk(
    recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training goes on while a checkpoint is written, and must not change what is being written."""
    write = write_checkpoint
    written: list[tuple[int, list[float], Tensor, Tensor]] = []

    def slow(folder: Path, checkpoint: Checkpoint, **options: Any) -> Path:
        time.sleep(0.1)
        moment = checkpoint.optimizer["linear.weight"]["exp_avg"] if checkpoint.optimizer else torch.zeros(0)
        weight = checkpoint.model["linear.weight"]
        written.append((checkpoint.step, list(checkpoint.pending_losses), weight.clone(), moment.clone()))
        return write(folder, checkpoint, **options)

    monkeypatch.setattr(saving, "write_checkpoint", slow)
    train(replace(recipe, log_every=5, save_every=Every(4, "steps")), tmp_path / "slow")
    with monkeypatch.context() as patch:
        patch.setattr(saving.Saver, "save", partialmethod(_waiting, saving.Saver.save))
        train(replace(recipe, log_every=5, save_every=Every(4, "steps")), tmp_path / "waiting")
    half = len(written) // 2
    assert [record[0] for record in written] == [0, 4, 8, 12] * 2
    assert [len(record[1]) for record in written[:half]] == [0, 4, 3, 0]
    for one, other in zip(written[:half], written[half:], strict=True):
        assert one[:2] == other[:2]
        assert torch.equal(one[2], other[2])
        assert torch.equal(one[3], other[3])


def _waiting(self: saving.Saver, save: Callable[..., None], checkpoint: Checkpoint, _: SaveMode) -> None:
    save(self, checkpoint, SaveMode.WAITED)


def test_a_change_of_versions_or_hardware_that_decides_the_last_digits_is_reported(
    recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        train(saving_always(recipe), tmp_path, loss=Crash(4))
    train(replace(recipe, epochs=4), tmp_path, loss=Crash(10**6))
    told = (tmp_path / "log.txt").read_text()
    assert "last digits" not in told
    now = numerics
    monkeypatch.setattr(state, "numerics", lambda fabric: {**now(fabric), "threads": 96, "processes": 7})
    train(recipe, tmp_path)
    assert re.search(
        r"later losses may differ in their last digits from an uninterrupted run's: "
        rf"threads {torch.get_num_threads()} then, 96 now, processes 1 then, 7 now$",
        (tmp_path / "log.txt").read_text(),
        re.MULTILINE,
    )


def test_work_after_the_last_checkpoint_is_done_again(recipe: PretrainRecipe, tmp_path: Path) -> None:
    train(recipe, tmp_path / "straight")
    with pytest.raises(RuntimeError, match="power cut"):
        train(recipe, tmp_path / "crashed", loss=Crash(7))  # no other checkpoint in these few milliseconds
    assert steps_saved(tmp_path / "crashed") == [0]
    assert metrics(tmp_path / "crashed", "step") == [1, 2, 3, 4, 5, 6, 7]
    again = Crash(10**6)
    train(recipe, tmp_path / "crashed", loss=again)
    assert again.calls == STEPS
    assert_same_run(tmp_path / "straight", tmp_path / "crashed")


def test_a_damaged_newest_checkpoint_is_reported_and_the_older_continued(
    said: list[str], recipe: PretrainRecipe, tmp_path: Path
) -> None:
    train(recipe, tmp_path / "straight")
    with pytest.raises(RuntimeError, match="power cut"):
        train(saving_always(recipe), tmp_path / "crashed", loss=Crash(8))
    newest = list_checkpoints(tmp_path / "crashed" / "checkpoints")[0] / MODEL
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    train(recipe, tmp_path / "crashed")
    text = "\n".join(said)
    assert "step-00000008 is damaged" in text
    assert "continuing from step 7" in text
    assert_same_run(tmp_path / "straight", tmp_path / "crashed")


def test_a_crash_after_the_last_step_costs_no_step(recipe: PretrainRecipe, tmp_path: Path) -> None:
    evaluations: list[int] = []

    def evaluate(_: nn.Module) -> dict[str, float]:
        evaluations.append(1)
        return {"top1": 50.0 + len(evaluations)}

    figures = train(recipe, tmp_path, evaluate=evaluate)
    expected = weights(tmp_path)
    (tmp_path / ENCODER).unlink()
    again = Crash(0)
    assert train(recipe, tmp_path, loss=again, evaluate=evaluate) == figures
    assert again.calls == 0
    assert figures["top1"] == 54.0
    assert torch.equal(weights(tmp_path), expected)


# --------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("log_every", [1, 5])
def test_a_signal_saves_after_the_step_and_the_same_call_continues_bit_for_bit(
    recipe: PretrainRecipe, tmp_path: Path, which: signal.Signals, log_every: int
) -> None:
    recipe = replace(recipe, log_every=log_every, ema_decay=0.8)
    train(recipe, tmp_path / "straight")
    handler = signal.getsignal(which)
    with pytest.raises(Interrupted, match="stopped after step 7 of 12"):
        train(recipe, tmp_path / "stopped", loss=Crash(6, act=lambda: os.kill(os.getpid(), which)))
    assert signal.getsignal(which) == handler
    train(recipe, tmp_path / "stopped")
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


def test_a_request_to_stop_that_cannot_save_says_so_and_not_that_all_is_well(
    recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def ask() -> None:
        monkeypatch.setattr(saving, "write_checkpoint", full)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(ValueError, match="cannot save step 4: No space left on device; free some space"):
        train(recipe, tmp_path, loss=Crash(3, act=ask))
    assert steps_saved(tmp_path) == [0]


def test_a_second_ctrl_c_stops_at_once(recipe: PretrainRecipe, tmp_path: Path) -> None:
    class AtOnce(Exception):
        pass

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise AtOnce

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    previous = signal.signal(signal.SIGINT, stop)
    try:
        with pytest.raises(AtOnce):
            train(recipe, tmp_path, loss=Crash(3, act=twice))
        assert signal.getsignal(signal.SIGINT) is stop
    finally:
        signal.signal(signal.SIGINT, previous)
    assert steps_saved(tmp_path) == [0]


def test_a_scheduler_that_asks_again_and_again_is_obeyed_once(recipe: PretrainRecipe, tmp_path: Path) -> None:
    def insist() -> None:
        for which in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), which)

    with pytest.raises(Interrupted, match="stopped after step 4 of 12"):
        train(recipe, tmp_path, loss=Crash(3, act=insist))
    assert steps_saved(tmp_path) == [4, 0]


def test_a_signal_while_the_weights_change_is_obeyed_after_the_same_step(
    recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*arguments: Any, **options: Any) -> Any:
        verdict = agreement.agree(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)
        return verdict

    train(recipe, tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "agree", too_late)
        with pytest.raises(Interrupted, match="stopped after step 1 of 12"):
            train(recipe, tmp_path / "stopped")
    train(recipe, tmp_path / "stopped")
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


def test_a_signal_gives_up_the_save_in_the_background_and_saves_its_own_step(
    recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, how = threading.Event(), dict[int, SaveMode]()

    def slow(
        folder: Path, checkpoint: Checkpoint, *, mode: SaveMode, given_up: Callable[[], bool], **options: Any
    ) -> Path:
        step = checkpoint.step
        how[step] = mode
        if step == 4:
            began.set()
        until = time.monotonic() + 10
        while step == 4 and time.monotonic() < until:
            if given_up():
                raise GivenUp
        return write_checkpoint(folder, checkpoint, mode=mode, **options)

    def ask() -> None:
        assert began.wait(10)
        os.kill(os.getpid(), signal.SIGTERM)

    train(recipe, tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr(saving, "write_checkpoint", slow)
        with pytest.raises(Interrupted, match="stopped after step 5 of 12"):
            train(replace(recipe, save_every=Every(4, "steps")), tmp_path / "stopped", loss=Crash(4, act=ask))
    assert how == {0: SaveMode.WAITED, 4: SaveMode.BACKGROUND, 5: SaveMode.BEFORE_EXIT}
    assert steps_saved(tmp_path / "stopped") == [5, 0]
    (said,) = (tmp_path / "stopped" / LOG).read_text().splitlines()
    assert said.endswith(" asked to stop: stopped after step 5 of 12"), "it is no failure"
    train(recipe, tmp_path / "stopped")
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


def test_a_signal_during_the_last_step_does_not_make_the_run_unfinished(recipe: PretrainRecipe, tmp_path: Path) -> None:
    figures = train(recipe, tmp_path, loss=Crash(STEPS - 1, act=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert figures["epoch"] == 4.0
    assert (tmp_path / ENCODER).exists()


# -------------------------------------------------------------------------------------------- one step of it


def test_accumulation_gives_the_update_of_the_whole_batch(recipe: PretrainRecipe, tmp_path: Path) -> None:
    watches = {parts: Watch() for parts in (1, 2, 4)}
    for parts, watch in watches.items():
        train(replace(recipe, accumulate=parts), tmp_path / str(parts), dropout=0.0, watch=watch)
    for parts in (2, 4):
        assert watches[parts].gradient_norms == pytest.approx(watches[1].gradient_norms, rel=1e-4)
        torch.testing.assert_close(weights(tmp_path / str(parts)), weights(tmp_path / "1"), rtol=1e-4, atol=1e-6)
        assert metrics(tmp_path / str(parts)) == pytest.approx(metrics(tmp_path / "1"), rel=1e-5)


def test_the_gradients_norm_is_clipped(recipe: PretrainRecipe, tmp_path: Path) -> None:
    free, clipped = Watch(), Watch()
    train(recipe, tmp_path / "free", watch=free)
    train(replace(recipe, clip_norm=0.01), tmp_path / "clipped", watch=clipped)
    assert min(free.gradient_norms) > 0.02
    assert clipped.gradient_norms == pytest.approx([0.01] * STEPS, rel=1e-3)


def test_every_step_starts_from_fresh_gradients(recipe: PretrainRecipe, tmp_path: Path) -> None:
    watch = Watch()
    train(replace(recipe, base_lr=0.0), tmp_path, watch=watch, dropout=0.0)
    assert max(watch.gradient_norms) < 2 * min(watch.gradient_norms)  # not a sum that grows


def test_rates_follow_the_schedule_and_are_logged(recipe: PretrainRecipe, tmp_path: Path) -> None:
    recipe = replace(recipe, warmup_epochs=4 / 3, warmup_start=0.25, min_lr=1e-3)
    watch = Watch()
    train(recipe, tmp_path, watch=watch)
    expected = [
        learning_rate(step, peak=1.0 * BATCH / 256, floor=1e-3, total_steps=STEPS, warmup_steps=4, warmup_start=0.25)
        for step in range(STEPS)
    ]
    assert [max(rates) for rates in watch.rates] == expected
    assert metrics(tmp_path, "lr") == expected


@pytest.mark.parametrize(("scaled", "floor"), [(True, 0.25 * 1e-3), (False, 1e-3)])
def test_layer_wise_decay_scales_peak_and_if_wanted_the_floor(
    images: Path, tmp_path: Path, scaled: bool, floor: float
) -> None:
    found = find_recipe("fashion-mnist", "finetune")
    assert isinstance(found, FinetuneRecipe)
    recipe = replace(
        found, data=str(images), epochs=4, batch_size=BATCH, workers=0, base_lr=1.0, min_lr=1e-3, min_lr_scaled=scaled
    )

    def build(recipe: Recipe, model: nn.Module) -> Optimizer:
        linear = cast(Toy, model).linear
        groups = [{"params": [linear.weight], "lr_scale": 0.25}, {"params": [linear.bias], "lr_scale": 1.0}]
        return torch.optim.AdamW(groups, lr=recipe.lr)

    watch = Watch()
    train(recipe, tmp_path, watch=watch, build=build)
    peak, warmup = 1.0 * BATCH / 256, 3 * STEPS_PER_EPOCH
    options: dict[str, int] = {"total_steps": STEPS, "warmup_steps": warmup}
    low = [learning_rate(step, peak=0.25 * peak, floor=floor, **options) for step in range(STEPS)]
    high = [learning_rate(step, peak=peak, floor=1e-3, **options) for step in range(STEPS)]
    assert watch.rates == [[one, other] for one, other in zip(low, high, strict=True)]


def test_the_average_is_exported_when_the_recipe_asks_for_one(recipe: PretrainRecipe, tmp_path: Path) -> None:
    watch = Watch()
    train(replace(recipe, ema_decay=0.8, warmup_epochs=0), tmp_path, watch=watch)
    average = watch.weights[0]
    for later in watch.weights[1:]:
        average = 0.8 * average + 0.2 * later
    exported = load_file(tmp_path / ENCODER)
    expected = {name: average[place] for name, place in (("bias", slice(0, 3)), ("weight", slice(3, None)))}
    for name, values in expected.items():
        torch.testing.assert_close(exported[f"linear.{name}"].flatten(), values)
    assert not torch.allclose(watch.weights[-1], average, atol=1e-4)


def test_the_last_weights_are_exported_otherwise(recipe: PretrainRecipe, tmp_path: Path) -> None:
    watch = Watch()
    train(recipe, tmp_path, watch=watch)
    exported = load_file(tmp_path / ENCODER)
    last = torch.cat([exported["linear.bias"], exported["linear.weight"].flatten()])
    assert torch.equal(last, watch.weights[-1])


# ------------------------------------------------------------------------------------------ logging and saving


def test_a_line_is_the_mean_of_all_steps_since_the_last_whatever_is_saved_or_evaluated_between(
    recipe: PretrainRecipe, tmp_path: Path
) -> None:
    seen: list[float] = []

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        value = toy_loss(model, batch)
        seen.append(float(value.detach()))
        return value

    recipe = replace(recipe, log_every=5, save_every=Every(1, "steps"))
    train(recipe, tmp_path, loss=loss, evaluate=lambda _: {"top1": 1.0})
    assert metrics(tmp_path) == pytest.approx([np.mean(seen[:5]), np.mean(seen[5:10]), np.mean(seen[10:])], rel=1e-6)


def test_evaluation_is_logged_once_and_training_goes_on_in_training_mode(images: Path, tmp_path: Path) -> None:
    modes: list[bool] = []

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        modes.append(model.training)
        return toy_loss(model, batch)

    def evaluate(model: nn.Module) -> dict[str, float]:
        model.eval()
        return {"top1": float(len(modes))}

    recipe = linear_recipe(images, base_lr=1.0, eval_every=2)
    figures = train(recipe, tmp_path, loss=loss, evaluate=evaluate)
    assert modes == [True] * STEPS
    assert metrics(tmp_path, "top1") == [6.0, 12.0]
    assert figures["top1"] == 12.0


def test_the_average_is_evaluated(recipe: PretrainRecipe, tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def evaluate(model: nn.Module) -> dict[str, float]:
        seen.append(cast(Toy, model).linear.bias.detach().clone())
        return {"top1": 0.0}

    train(replace(recipe, ema_decay=0.8), tmp_path, evaluate=evaluate)
    assert torch.equal(seen[-1], load_file(tmp_path / ENCODER)["linear.bias"])


def test_checkpoints_are_written_when_their_time_has_come_and_at_the_end(
    recipe: PretrainRecipe, tmp_path: Path
) -> None:
    for name, changes in {"rare": {}, "often": {"save_every": Every(1, "steps"), "keep_last": 3}}.items():
        train(replace(recipe, **changes), tmp_path / name)  # type: ignore[arg-type]  # field names with values
    assert steps_saved(tmp_path / "rare") == [12, 0]
    assert steps_saved(tmp_path / "often") == [12, 11, 10]


def test_pauses_do_not_count_as_training_time(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: now))

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal now
        now += 0.5
        return toy_loss(model, batch)

    def evaluate(_: nn.Module) -> dict[str, float]:
        nonlocal now
        now += 60.0
        return {"top1": 1.0}

    train(linear_recipe(images, base_lr=1.0, log_every=2), tmp_path, loss=loss, evaluate=evaluate)
    assert metrics(tmp_path, "images_per_second") == [BATCH / 0.5] * (STEPS // 2)


# ------------------------------------------------------------------------------------------------ what goes wrong


@pytest.fixture
def partly_bad(images: Path, tmp_path: Path) -> Path:
    """The images, three of which cannot be decoded."""
    folder = tmp_path / "partly-bad"
    folder.mkdir()
    for file in images.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "02.png").write_text("no image")
    (folder / "05.png").write_bytes((images / "05.png").read_bytes()[:60])
    (folder / "09.png").write_bytes(b"")
    return folder


def test_too_many_bad_images_stop_the_run(recipe: PretrainRecipe, partly_bad: Path, tmp_path: Path) -> None:
    recipe = replace(recipe, data=str(partly_bad), max_bad=0.2)
    with pytest.raises(
        ValueError, match=r"^3 of 12 images cannot be decoded, the last one \d\d\.png \(.+\); repair"
    ) as error:
        train(recipe, tmp_path / "run")
    assert str(tmp_path / "run" / BAD_IMAGES) in str(error.value)
    assert "--max-bad" in str(error.value)


def test_bad_images_are_listed_once_with_name_and_reason(
    recipe: PretrainRecipe, partly_bad: Path, tmp_path: Path
) -> None:
    recipe = replace(recipe, data=str(partly_bad), max_bad=0.25, save_every=Every(1, "steps"))
    with pytest.raises(RuntimeError, match="power cut"):
        train(recipe, tmp_path / "run", loss=Crash(7))
    train(recipe, tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / BAD_IMAGES).read_text().splitlines()]
    assert sorted(record["name"] for record in records) == ["02.png", "05.png", "09.png"]
    assert all(record["reason"] and set(record) == {"image", "name", "reason", "split"} for record in records)
    assert metrics(tmp_path / "run", "step") == list(range(1, STEPS + 1))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_of_bad_images_is_one_sentence_from_any_process(
    recipe: PretrainRecipe, tmp_path: Path, workers: int
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for number in range(IMAGES):
        (folder / f"{number:02d}.png").write_text("no image")
    with pytest.raises(ValueError, match=r"cannot be decoded, the last one \d\d\.png \(not an image\)") as error:
        train(replace(recipe, data=str(folder), workers=workers), tmp_path / "run")
    assert not re.search("Traceback|\n", str(error.value))
    assert not multiprocessing.active_children()  # though `error` holds on to all that was going on


def test_too_few_images_for_a_batch_and_batches_that_cannot_be_cut_are_refused(
    recipe: PretrainRecipe, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="12 images do not fill a batch of 13; use --batch-size 12"):
        train(replace(recipe, batch_size=13), tmp_path / "large")
    with pytest.raises(ValueError, match="a batch of 4 cannot be cut into 3 accumulation steps"):
        train(replace(recipe, accumulate=3), tmp_path / "uneven")


def test_the_random_numbers_of_a_step_depend_on_the_seed_and_the_step() -> None:
    drawn = []
    for seed, step in ((7, 3), (7, 4), (8, 3), (7, 3)):
        trainer.seed_step(seed, step)
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[3]
    assert len(set(drawn)) == 3


@pytest.mark.parametrize(("every", "due"), [(1, [3, 6, 9, 12]), (3, [9, 12]), (5, [12])])
def test_evaluation_is_due_every_so_many_epochs_and_at_the_end(
    images: Path, tmp_path: Path, every: int, due: list[int]
) -> None:
    train(linear_recipe(images, base_lr=1.0, eval_every=every), tmp_path, evaluate=lambda _: {"top1": 1.0})
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines if "top1" in line] == due


def test_a_signal_during_an_evaluation_saves_and_the_evaluation_is_done_again(images: Path, tmp_path: Path) -> None:
    recipe = linear_recipe(images, base_lr=1.0)

    def evaluate(_: nn.Module, give_up: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        asked.append(give_up())
        if len(asked) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return None if give_up() else {"top1": float(len(asked))}

    asked: list[bool] = []
    with pytest.raises(Interrupted, match="stopped during the evaluation after step 6 of 12"):
        train(recipe, tmp_path, evaluate=evaluate)
    assert steps_saved(tmp_path)[0] == 6
    train(recipe, tmp_path, evaluate=evaluate)
    assert metrics(tmp_path, "top1") == [1.0, 3.0, 4.0, 5.0]
    assert metrics(tmp_path, "step").count(6) == 2  # the step, and its evaluation


def test_an_evaluation_that_is_made_up_for_and_stopped_again_saves_nothing_again(images: Path, tmp_path: Path) -> None:
    recipe = linear_recipe(images, base_lr=1.0)

    def evaluate(_: nn.Module, give_up: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        os.kill(os.getpid(), signal.SIGTERM)
        return None if give_up() else {"top1": 1.0}

    manifest = tmp_path / "checkpoints" / "step-00000003" / MANIFEST
    saved: list[int] = []
    for _ in range(2):
        with pytest.raises(Interrupted, match="stopped during the evaluation after step 3 of 12"):
            train(recipe, tmp_path, evaluate=evaluate)
        saved.append(manifest.stat().st_ino)
    assert saved[0] == saved[1]


def test_a_step_is_logged_before_it_is_saved_and_saved_before_it_is_evaluated(
    recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, int]] = []

    def write(folder: Path, checkpoint: Checkpoint, **options: Any) -> Path:
        if checkpoint.step:
            assert metrics(tmp_path, "step")[-1] == checkpoint.step
        events.append(("saved", checkpoint.step))
        return write_checkpoint(folder, checkpoint, **options)

    def evaluate(_: nn.Module) -> dict[str, float]:
        events.append(("evaluated", int(metrics(tmp_path, "step")[-1])))
        return {"top1": 1.0}

    monkeypatch.setattr(saving, "write_checkpoint", write)
    monkeypatch.setattr(saving.Saver, "save", partialmethod(_waiting, saving.Saver.save))
    train(replace(recipe, save_every=Every(6, "steps")), tmp_path, evaluate=evaluate)
    evaluated = [("evaluated", step) for step in (3, 6, 9, 12)]
    assert events == [("saved", 0), evaluated[0], ("saved", 6), *evaluated[1:3], ("saved", 12), evaluated[3]]
