import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import openmae
from openmae.checkpoints.checkpoint import list_checkpoints
from openmae.checkpoints.locking import LOCK
from openmae.checkpoints.names import DATA, ENCODER, ENVIRONMENT, LOG, METRICS, RECIPE, RESULTS
from openmae.checkpoints.reading import read_checkpoint
from openmae.checkpoints.tensor_files import write_tensors
from openmae.core.masking import Mask, kept_count
from openmae.core.model import MAEOutput
from openmae.data.batches import Batch
from openmae.recipes import PretrainRecipe, find_recipe
from openmae.recipes.saved import from_yaml, to_yaml
from openmae.recipes.values import Every, ImageSize
from openmae.training import pretraining
from openmae.training.pretraining import describe, reconstruction_loss, run_pretraining
from openmae.weights.formats.own import recipe_metadata
from openmae.weights.networks import network_of
from tests.data.decoding.crafting import tiff

PATIENCE = 300
"""Seconds until a process counts as stuck, on a machine that is busy with other things."""


@pytest.fixture
def recipe(tiny_recipe: PretrainRecipe) -> PretrainRecipe:
    """Six steps in two epochs, every one of them logged."""
    return replace(tiny_recipe, optimizer="adamw", base_lr=4e-3, log_every=1)


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / METRICS).read_text().splitlines()]
    return [line["loss"] for line in lines if "quality/loss" not in line]


def assert_same_run(one: Path, other: Path) -> None:
    """Every logged loss and every exported weight, bit for bit."""
    assert losses(one) == losses(other)
    first, second = load_file(one / ENCODER), load_file(other / ENCODER)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def crash_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the run die in its loss function after so many steps."""
    original = reconstruction_loss

    def dying(*arguments: Any) -> Callable[[nn.Module, Batch], Tensor]:
        loss, calls = original(*arguments), iter(range(steps))

        def once_more(model: nn.Module, batch: Batch) -> Tensor:
            if next(calls, None) is None:
                raise RuntimeError("power cut")
            return loss(model, batch)

        return once_more

    monkeypatch.setattr(pretraining, "reconstruction_loss", dying)


def command(recipe: PretrainRecipe, out: Path, *more: str) -> list[str]:
    """`openmae pretrain` by this recipe, as one would type it."""
    (out.parent / f"{out.name}.yaml").write_text(to_yaml(recipe))
    words = ["pretrain", "--recipe-file", str(out.parent / f"{out.name}.yaml"), "--out", str(out), *more]
    return [sys.executable, "-m", "openmae.cli", *words]


# -------------------------------------------------------------------------------------------------- what it does


def test_the_loss_falls(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    recipe = replace(tiny_recipe, epochs=15, warmup_epochs=1, log_every=3)
    figures = run_pretraining(recipe, tmp_path)
    assert figures["loss"] == losses(tmp_path)[-1]
    assert figures["loss"] < 0.6 * losses(tmp_path)[0]


def test_a_finished_run_has_its_files_and_says_what_came_out(
    said: list[str], recipe: PretrainRecipe, tmp_path: Path
) -> None:
    results = run_pretraining(recipe, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        RECIPE, DATA, ENVIRONMENT, METRICS, LOG, RESULTS, ENCODER, LOCK, "tensorboard", "checkpoints",
    }  # fmt: skip
    assert results == json.loads((tmp_path / RESULTS).read_text())
    assert {"protocol", "recipe", "seed", "epoch", "loss", "images_per_second", "lr", "out"} <= set(results)
    assert (results["protocol"], results["epoch"], results["out"]) == ("pretrain", 2.0, str(tmp_path))
    text = "\n".join(said)
    assert "120 images for 2 epochs" in text
    assert "7x7 patches of which 12 are visible, batch 40, adamw at" in text
    assert text.splitlines()[0] in (tmp_path / LOG).read_text()


def test_every_image_that_is_not_held_out_is_trained_on_and_it_is_said(
    said: list[str], recipe: PretrainRecipe, small_fashion: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "validation", "test", "more"):
        (data / f"{name}.parquet").symlink_to(small_fashion / ("test.parquet" if name != "train" else "train.parquet"))
    results = run_pretraining(replace(recipe, data=str(data), epochs=1, warmup_epochs=0), tmp_path / "run")
    assert "images: train 120, more 40; held out: val 40, test 40" in said
    assert "on 160 images for 1 epochs" in "\n".join(said)
    assert results["data"] == {
        "splits": {
            "train": {"images": 120, "used": True},
            "val": {"images": 40, "used": False},
            "test": {"images": 40, "used": False},
            "more": {"images": 40, "used": True},
        },
        "left_out": [],
    }


def test_repeats_are_counted_as_samples_and_steps_and_said(
    said: list[str], recipe: PretrainRecipe, tmp_path: Path
) -> None:
    run_pretraining(replace(recipe, repeats=2), tmp_path)
    assert "120 images for 2 epochs, 2 crops and masks of each: 240 samples an epoch" in "\n".join(said)
    records = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, 13))  # 240 samples in batches of 40, twice
    assert [record["samples"] for record in records] == list(range(40, 481, 40))
    assert records[-1]["epoch"] == 2.0


def test_a_second_call_on_a_finished_run_does_no_work(
    said: list[str], recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = run_pretraining(recipe, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != LOG}
    monkeypatch.setattr(pretraining, "network_of", lambda _: pytest.fail("it builds a model"))
    assert run_pretraining(recipe, tmp_path) == results
    assert "already finished" in "\n".join(said)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != LOG}
    assert after == before


def test_the_same_recipe_gives_the_same_run_and_another_seed_another(recipe: PretrainRecipe, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        torch.manual_seed(len(name))
        run_pretraining(replace(recipe, seed=seed), tmp_path / name)
    assert_same_run(tmp_path / "one", tmp_path / "again")
    assert losses(tmp_path / "one")[0] != losses(tmp_path / "other")[0]


@pytest.mark.parametrize("after", [2, 4])
def test_a_run_that_died_within_an_epoch_continues_bit_for_bit_with_other_workers(
    recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    run_pretraining(recipe, tmp_path / "straight")
    with monkeypatch.context() as patch:
        crash_after(patch, after)
        with pytest.raises(RuntimeError, match="power cut"):
            run_pretraining(replace(recipe, save_every=Every(1, "steps")), tmp_path / "died")
    assert losses(tmp_path / "died") == losses(tmp_path / "straight")[:after]
    assert read_checkpoint(list_checkpoints(tmp_path / "died" / "checkpoints")[0]).step == after
    assert not (tmp_path / "died" / ENCODER).exists()
    run_pretraining(replace(recipe, workers=2), tmp_path / "died")
    assert_same_run(tmp_path / "straight", tmp_path / "died")


def test_masks_come_from_the_noise_of_each_image(tiny_recipe: PretrainRecipe) -> None:
    model = network_of(tiny_recipe).build_autoencoder(mlp_bias_std=tiny_recipe.mlp_bias_std)
    seen: list[tuple[Tensor, Mask]] = []

    class Spy(nn.Module):
        def forward(self, images: Tensor, mask: Mask) -> MAEOutput:
            seen.append((images, mask))
            return MAEOutput(loss=torch.tensor(7.0), prediction=images, mask=mask)

    noise = torch.rand(2, 49)
    batch = Batch(
        images=torch.full((2, 1, 28, 28), 255, dtype=torch.uint8),
        targets=None,
        uniform=noise,
        indices=torch.arange(2),
        seeds=[0, 0],
        bad=[],
    )
    assert reconstruction_loss(tiny_recipe, model)(Spy(), batch).item() == 7.0
    images, mask = seen[0]
    assert mask.kept.shape == (2, kept_count(49, 0.75))
    assert mask.grid == (7, 7)
    for row in range(2):
        assert noise[row, mask.kept[row]].max() < noise[row, mask.dropped[row]].min()
    torch.testing.assert_close(images, torch.full((2, 1, 28, 28), (1 - 0.286) / 0.353))


def test_the_description_counts_parameters_and_patches(tiny_recipe: PretrainRecipe) -> None:
    model = network_of(tiny_recipe).build_autoencoder(mlp_bias_std=tiny_recipe.mlp_bias_std)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    text = describe(tiny_recipe, model, 1234567)
    assert f"({millions:.2f} M parameters with decoder) on 1,234,567 images" in text


# ------------------------------------------------------------------------------------------------- what is refused


def test_no_data_is_refused(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images to train on; give --data"):
        run_pretraining(replace(tiny_recipe, data=None), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_output_that_cannot_be_written_is_refused(tiny_recipe: PretrainRecipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"cannot write to .*run \(Not a directory\); give --out"):
        run_pretraining(tiny_recipe, tmp_path / "file" / "run")


def test_after_a_size_that_does_not_fit_the_corrected_command_works_on_the_same_folder(
    recipe: PretrainRecipe, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="30x30 is not a multiple of the patch size 4x4; use --image-size 32x32"):
        run_pretraining(replace(recipe, image_size=ImageSize(30, 30)), tmp_path)
    assert run_pretraining(recipe, tmp_path)["epoch"] == 2.0


def test_another_recipe_on_the_same_folder_is_refused(tiny_run: Path, tiny_recipe: PretrainRecipe) -> None:
    with pytest.raises(ValueError, match=r"holds another run .*mask_ratio 0\.75 there, 0\.6 now"):
        run_pretraining(replace(tiny_recipe, mask_ratio=0.6), tiny_run)


# ------------------------------------------------------------------------------------------- what timm makes of it


def test_timm_loads_the_encoder_as_it_is_and_computes_the_same_features(tiny_run: Path) -> None:
    theirs = timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=0,
        img_size=28,
        patch_size=4,
        in_chans=1,
        embed_dim=32,
        depth=2,
        num_heads=2,
        checkpoint_path=str(tiny_run / ENCODER),
    ).eval()
    ours = openmae.load_encoder(tiny_run)
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(theirs(images), ours(images))
        assert float(theirs(images).std()) > 0.1
    assert load_file(tiny_run / ENCODER).keys() == theirs.state_dict().keys()


@pytest.mark.slow
def test_timm_loads_a_vit_b_by_name_alone(tmp_path: Path) -> None:
    recipe = find_recipe("vit-b16-800e", "pretrain")
    assert isinstance(recipe, PretrainRecipe)
    write_tensors(
        tmp_path / ENCODER,
        network_of(recipe).build_autoencoder(mlp_bias_std=recipe.mlp_bias_std).encoder.state_dict(),
        recipe_metadata(recipe),
    )
    theirs = timm.create_model("vit_base_patch16_224", num_classes=0, checkpoint_path=str(tmp_path / ENCODER)).eval()
    ours = openmae.load_encoder(tmp_path)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(theirs(images), ours(images))


# ------------------------------------------------------------------------------------- other processes and devices


def compiled_with(backend: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let torch.compile use `backend`; returns the list of what it compiles."""
    compiled: list[str] = []
    original = torch.compile

    def fake(model: nn.Module, **options: Any) -> Any:
        compiled.append(type(model).__name__)
        return original(model, **{**options, "backend": backend})

    monkeypatch.setattr(torch, "compile", fake)
    return compiled


@pytest.mark.slow
def test_a_compiled_model_trains_alike_and_exports_the_same_names(
    recipe: PretrainRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_pretraining(recipe, tmp_path / "plain")
    compiled = compiled_with("aot_eager", monkeypatch)
    run_pretraining(replace(recipe, compile=True), tmp_path / "compiled")
    assert set(compiled) == {"MaskedAutoencoder"}
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)
    assert load_file(tmp_path / "compiled" / ENCODER).keys() == load_file(tmp_path / "plain" / ENCODER).keys()
    openmae.load_encoder(tmp_path / "compiled")


@pytest.mark.slow
def test_two_processes_see_the_same_images_and_reach_the_same_losses_as_one(
    recipe: PretrainRecipe, tmp_path: Path
) -> None:
    run_pretraining(recipe, tmp_path / "one")
    done = subprocess.run(
        command(recipe, tmp_path / "two", "--devices", "2", "--json"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    newest = read_checkpoint(list_checkpoints(tmp_path / "two" / "checkpoints")[0])
    assert newest.numerics["processes"] == 2
    assert done.stderr.count("pre-training ") == 1, "one process speaks for both"
    assert json.loads(done.stdout)["protocol"] == "pretrain", "the result is printed once"
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    one, two = load_file(tmp_path / "one" / ENCODER), load_file(tmp_path / "two" / ENCODER)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_command_that_is_asked_to_stop_saves_and_the_same_recipe_continues_bit_for_bit(
    recipe: PretrainRecipe, tmp_path: Path
) -> None:
    recipe = replace(recipe, epochs=5, batch_size=4)  # 150 small steps: time enough to be caught in the middle
    out = tmp_path / "stopped"
    process = subprocess.Popen(command(recipe, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE
    while not (out / METRICS).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75, said
    assert "everything is saved; to continue: openmae pretrain --recipe-file" in said
    assert "Traceback" not in said
    assert 0 < len(losses(out)) < 150
    run_pretraining(recipe, out)
    run_pretraining(recipe, tmp_path / "straight")
    assert_same_run(tmp_path / "straight", out)


@pytest.mark.slow
def test_a_signal_to_the_whole_group_leaves_the_loader_processes_to_the_last_step(
    recipe: PretrainRecipe, tmp_path: Path
) -> None:
    """Schedulers and terminals signal every process of a job, not only the one that can do something about it."""
    recipe = replace(recipe, epochs=40, batch_size=4, workers=2, hold=False, quality_every=0)
    out = tmp_path / "stopped"
    process = subprocess.Popen(
        command(recipe, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE
    while not (out / METRICS).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    asked = time.monotonic()
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75, said
    assert time.monotonic() - asked < 10
    steps = [int(path.name.removeprefix("step-")) for path in list_checkpoints(out / "checkpoints")]
    assert f"stopped after step {steps[0]} of" in said


@pytest.mark.slow
def test_torchrun_starts_a_run_again_that_lost_a_process_and_it_ends_as_if_nothing_had_happened(
    recipe: PretrainRecipe, tmp_path: Path
) -> None:
    recipe = replace(recipe, epochs=5, batch_size=4, save_every=Every(10, "steps"), quality_every=0)
    run_pretraining(recipe, tmp_path / "one")
    out = tmp_path / "two"
    _, *arguments = command(recipe, out)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1"]
    process = subprocess.Popen(
        [*launcher, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE
    while len(list_checkpoints(out / "checkpoints")) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    victims = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    os.kill(victims[-1], signal.SIGKILL)
    _, said = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, said
    assert "continuing from step" in said
    assert losses(out) == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def satellite(folder: Path, *, tagged: bool = False) -> Path:
    """Eight floating-point images of two bands; half of each of every second one is -9999."""
    folder.mkdir()
    tags = [(42113, 2, 6, "-9999", True)] if tagged else []
    for number in range(8):
        bands = np.random.default_rng(number).normal(0.2, 0.05, (28, 28, 2)).astype(np.float32)
        bands[:, : 14 * (number % 2)] = -9999
        data = tiff(bands, photometric="minisblack", planarconfig="contig", metadata=None, extratags=tags)
        (folder / f"{number}.tif").write_bytes(data)
    return folder


@pytest.mark.parametrize("tagged", [True, False])
def test_pixels_without_data_are_left_out_of_statistics_and_loss(
    recipe: PretrainRecipe, tmp_path: Path, tagged: bool
) -> None:
    data = satellite(tmp_path / "images", tagged=tagged)
    recipe = replace(recipe, data=str(data), channels=2, normalize="from-data", epochs=1)
    result = run_pretraining(recipe, tmp_path / "run")
    saved = from_yaml((tmp_path / "run" / RECIPE).read_text())
    assert saved.mean == pytest.approx([0.2, 0.2], abs=0.01)
    assert saved.std == pytest.approx([0.05, 0.05], abs=0.01)
    assert saved.nodata == ("auto" if tagged else -9999)
    assert 0 < result["loss"] < 3
    assert network_of(saved).nodata == saved.nodata


def test_patches_without_data_do_not_count_in_the_loss_of_a_batch(recipe: PretrainRecipe) -> None:
    recipe = replace(recipe, pixel_type="float32", mask_ratio=0.5)
    torch.manual_seed(0)
    model = network_of(recipe).build_autoencoder()
    patches = model.geometry.patches
    images = torch.randn(2, 1, *recipe.image_size)
    images[:, :, :, : recipe.image_size.width // 2] = torch.nan
    uniform = torch.rand(2, patches)
    batch = Batch(images, None, uniform, torch.arange(2), [0, 1], [])
    loss = reconstruction_loss(recipe, model)(model, batch)
    filled = torch.where(images.isnan(), recipe.mean[0], images)
    assert bool(loss.isfinite())
    assert not torch.equal(reconstruction_loss(recipe, model)(model, batch._replace(images=filled)), loss)
    everywhere = batch._replace(images=torch.full_like(images, torch.nan))
    assert reconstruction_loss(recipe, model)(model, everywhere).item() == 0
