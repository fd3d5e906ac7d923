"""Fine-tuning: starts from the pre-trained encoder, regularised as the recipe says, deterministic per step."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from openmae.core.drop_path import GivenDropPath, drop_paths
from openmae.data.batches import Batch
from openmae.evaluation.experiment import open_experiment, train_transform
from openmae.evaluation.heads.classifier import build_classifier
from openmae.evaluation.protocols.finetune import clip_to_pixels, erase, finetuning_loss, run_finetune
from openmae.evaluation.tasks.classification import Classification
from openmae.recipes import FinetuneRecipe, find_recipe
from openmae.recipes.values import ImageSize

TEN = Classification(classes=tuple("0123456789"))


def recipe(weights: Path, data: Path, **changes: Any) -> FinetuneRecipe:
    found = find_recipe("fashion-mnist", "finetune")
    assert isinstance(found, FinetuneRecipe)
    small: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "epochs": 2, "batch_size": 40, "workers": 0}
    return replace(found, **{**small, "weights": str(weights), "data": str(data), **changes})


def test_classifier_starts_from_the_pretrained_blocks_with_a_fresh_head(tiny_run: Path, small_fashion: Path) -> None:
    this = recipe(tiny_run, small_fashion)
    vit = build_classifier(*open_experiment(this))
    trained = load_file(tiny_run / "encoder.safetensors")
    own = vit.state_dict()
    assert all(torch.equal(own[name], trained[name]) for name in own if name.startswith(("blocks.", "patch_embed.")))
    assert torch.equal(own["pos_embed"], trained["pos_embed"])
    assert vit.pos_embed.requires_grad, "positions are learnt when fine-tuning"
    assert torch.equal(own["fc_norm.weight"], torch.ones(32))
    assert float(own["head.weight"].std()) == pytest.approx(this.head_std, rel=0.2)


def test_untrained_classifier_has_other_blocks_but_the_same_positions(tiny_run: Path, small_fashion: Path) -> None:
    this = recipe(tiny_run, small_fashion, untrained=True)
    own = build_classifier(*open_experiment(this)).state_dict()
    trained = load_file(tiny_run / "encoder.safetensors")
    assert not torch.equal(own["blocks.0.mlp.fc1.weight"], trained["blocks.0.mlp.fc1.weight"])
    assert torch.equal(own["pos_embed"], trained["pos_embed"])


def test_positions_are_resized_for_larger_images(tiny_run: Path, small_fashion: Path) -> None:
    this = recipe(tiny_run, small_fashion, image_size=ImageSize(56, 28), eval_resize=28)
    vit = build_classifier(*open_experiment(this))
    assert vit.pos_embed.shape == (1, 1 + 14 * 7, 32)
    assert vit(torch.zeros(2, 1, 56, 28)).shape == (2, 10)


def test_randaugment_on_pixels_that_it_cannot_change_says_to_leave_it_out(tiny_run: Path, small_fashion: Path) -> None:
    for change in ({"pixel_type": "uint16"}, {"channels": 2, "normalize": "from-data"}):
        this = recipe(tiny_run, small_fashion, rand_augment="rand-m9-mstd0.5-inc1", **change)
        with pytest.raises(ValueError, match=r"RandAugment changes 8-bit grey and colour.*add --rand-augment None"):
            train_transform(this)
        assert train_transform(replace(this, rand_augment=None)).rand_augment is None


def test_class_token_pooling_keeps_the_encoders_norm(tiny_run: Path, small_fashion: Path) -> None:
    this = recipe(tiny_run, small_fashion, pool="cls")
    own = build_classifier(*open_experiment(this)).state_dict()
    assert torch.equal(own["norm.weight"], load_file(tiny_run / "encoder.safetensors")["norm.weight"])


def test_run_learns_and_its_encoder_can_be_measured(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    result = run_finetune(recipe(tiny_run, small_fashion, epochs=30, base_lr=2e-2, mixup=0, cutmix=0), tmp_path / "run")
    assert result["top1"] > 25, "chance is 10"
    from openmae.evaluation.protocols.knn import run_knn

    assert run_knn(tmp_path / "run", str(small_fashion))["top1"] > 25


def test_few_labels_make_a_smaller_even_batch(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    this = recipe(tiny_run, small_fashion, label_fraction=0.25, batch_size=128, epochs=1)
    assert run_finetune(this, tmp_path / "run")["train_images"] == 30
    assert "batch_size: 30" in (tmp_path / "run" / "recipe.yaml").read_text()


def test_an_odd_batch_cannot_be_mixed_and_the_message_says_so(tiny_run: Path, small_fashion: Path) -> None:
    images, labels = torch.zeros(3, 1, 28, 28), torch.arange(3)
    batch = batch_of(images, labels)
    with pytest.raises(ValueError, match=r"3 on each device .* is odd; use an even --batch-size, or --mixup 0"):
        finetuning_loss(recipe(tiny_run, small_fashion, mixup=0.8), TEN)(Spy(), images, batch)
    plain = finetuning_loss(recipe(tiny_run, small_fashion, mixup=0.0, cutmix=0.0), TEN)
    assert plain(Spy(), images, batch).isfinite()


def test_class_token_pooling_needs_a_class_token(tiny_run: Path, small_fashion: Path) -> None:
    this = recipe(tiny_run, small_fashion, pool="cls")
    this, experiment = open_experiment(this)
    without = replace(this, backbone="vit_base_patch16_gap_224")
    with pytest.raises(ValueError, match=r"^vit_base_patch16_gap_224 has no class token; use --pool mean$"):
        build_classifier(without, experiment)


class Spy(nn.Module):
    """Remembers the images and the numbers for drop path that reach the model."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.uniform: list[Tensor] = []

    def forward(self, images: Tensor, uniform: Tensor) -> Tensor:
        self.seen.append(images.clone())
        self.uniform.append(uniform)
        return images.flatten(1)[:, :10]


def batch_of(images: Tensor, labels: Tensor) -> Batch:
    """As the loader makes it: image i with the seed 100 + i and the numbers (i, i)."""
    places = torch.arange(len(images))
    return Batch(
        images=images,
        targets=labels,
        uniform=places[:, None].expand(-1, 2).float(),
        indices=places,
        seeds=[100 + place for place in range(len(images))],
        bad=[],
    )


def augmented(this: FinetuneRecipe, seed: int) -> tuple[Tensor, float]:
    spy, images = Spy(), torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(seed)
    loss = finetuning_loss(this, TEN)(spy, images.clone(), batch_of(images, torch.arange(8)))
    return spy.seen[0], float(loss)


def test_mixing_depends_on_the_step_seed_only(tiny_run: Path, small_fashion: Path) -> None:
    this = recipe(tiny_run, small_fashion, erasing=0.5, mixup=0.8, cutmix=1.0)
    first, second, other = augmented(this, 1), augmented(this, 1), augmented(this, 2)
    assert torch.equal(first[0], second[0])
    assert first[1] == second[1]
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("micro", [2, 4])
def test_an_image_is_mixed_alike_in_any_micro_batch(tiny_run: Path, small_fashion: Path, micro: int) -> None:
    loss = finetuning_loss(recipe(tiny_run, small_fashion, erasing=0.5, mixup=0.8, cutmix=1.0), TEN)
    whole = batch_of(torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(8))

    def seen(size: int) -> tuple[dict[int, Tensor], float]:
        spy, losses = Spy(), []
        torch.manual_seed(5)
        for start in range(0, 8, size):
            part = Batch._make(field[start : start + size] for field in whole if field is not None)
            losses.append(float(loss(spy, part.images.clone(), part)))
        places = torch.cat(spy.uniform)[:, 0].int().tolist()
        return dict(zip(places, torch.cat(spy.seen), strict=True)), sum(losses) / len(losses)

    (expected, expected_loss), (found, found_loss) = seen(8), seen(micro)
    assert list(expected) == [0, 2, 4, 6, 7, 5, 3, 1], "neighbours face each other"
    assert expected.keys() == found.keys() == set(range(8))
    assert all(torch.equal(expected[place], found[place]) for place in expected)
    assert found_loss == pytest.approx(expected_loss, rel=1e-6)


def test_mixing_pairs_neighbours(tiny_run: Path, small_fashion: Path) -> None:
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(-1, 1, 28, 28).clone()
    this = recipe(tiny_run, small_fashion, mixup=0.8, cutmix=0.0, erasing=0.0)
    spy = Spy()
    torch.manual_seed(0)
    finetuning_loss(this, TEN)(spy, images.clone(), batch_of(images, torch.arange(8)))
    for place, mixed in zip(spy.uniform[0][:, 0].int().tolist(), spy.seen[0], strict=True):
        assert 2 * (place // 2) <= float(mixed.max()) <= 2 * (place // 2) + 1


def test_erasing_depends_on_the_images_own_seed_only(tiny_run: Path, small_fashion: Path) -> None:
    images = torch.zeros(40, 1, 28, 28)
    state = random.getstate(), torch.get_rng_state()
    erased, reversed_ = images.clone(), images.clone()
    erase(erased, list(range(40)), 0.5)
    erase(reversed_, list(reversed(range(40))), 0.5)
    assert torch.equal(erased, reversed_.flip(0))
    changed = erased.flatten(1).any(dim=1)
    assert 10 < int(changed.sum()) < 30
    kept = [image for image, touched in zip(erased, changed, strict=True) if touched]
    assert not any(torch.equal(kept[0], other) for other in kept[1:])
    assert random.getstate() == state[0], "the global generators are as before"
    assert torch.equal(torch.get_rng_state(), state[1])


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_drop_path_of_the_classifier_follows_the_numbers_given(
    tiny_run: Path, small_fashion: Path, compiled: bool
) -> None:
    this = recipe(tiny_run, small_fashion, drop_path=0.5)
    vit = build_classifier(*open_experiment(this)).train()
    assert drop_paths(vit) == 2, "the first block drops nothing"
    images = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)).expand(4, -1, -1, -1)
    model = torch.compile(vit) if compiled else vit
    with torch.no_grad():
        nothing, whole = model(images, uniform=torch.full((4, 2), 0.75)), model(images)
        some = model(images, uniform=torch.tensor([[0.75, 0.75], [0.25, 0.75], [0.75, 0.25], [0.25, 0.25]]))
    assert torch.allclose(some[0], nothing[0], atol=1e-6)
    rows = [*some, whole[0]]
    differing = [not torch.allclose(a, b, atol=1e-5) for i, a in enumerate(rows) for b in rows[:i]]
    assert all(differing)
    with torch.no_grad():
        assert torch.equal(model(images), whole), "numbers of an earlier call are forgotten"


def test_a_run_drops_paths_by_the_numbers_that_come_with_the_images(
    tiny_run: Path, small_fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor | None] = []
    forward = GivenDropPath.forward

    def spy(self: GivenDropPath, branch: Tensor) -> Tensor:
        seen.append(self.uniform_B)
        return forward(self, branch)

    monkeypatch.setattr(GivenDropPath, "forward", spy)
    run_finetune(recipe(tiny_run, small_fashion, epochs=1), tmp_path / "run")
    assert [None if uniform is None else len(uniform) for uniform in seen] == [40] * 6 + [None] * 2
    numbers = torch.stack([uniform for uniform in seen if uniform is not None])
    assert len(set(numbers.flatten().tolist())) > 230, "each image, step and path has its own"


def test_switched_off_augmentation_leaves_images_alone(tiny_run: Path, small_fashion: Path) -> None:
    images = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    plain = recipe(tiny_run, small_fashion, erasing=0, mixup=0, cutmix=0, label_smoothing=0)
    seen, loss = augmented(plain, 1)
    assert torch.equal(seen, images)
    assert loss == pytest.approx(float(nn.functional.cross_entropy(images.flatten(1)[:, :10], torch.arange(8))))


def test_label_smoothing_applies_without_mixing_too(tiny_run: Path, small_fashion: Path) -> None:
    smooth = recipe(tiny_run, small_fashion, erasing=0, mixup=0, cutmix=0, label_smoothing=0.1)
    sharp = replace(smooth, label_smoothing=0.0)
    assert augmented(smooth, 1)[1] != augmented(sharp, 1)[1]


def test_mm_erasing_ends_inside_the_range_of_pixels(tiny_run: Path, small_fashion: Path) -> None:
    this = recipe(tiny_run, small_fashion)
    clipped = clip_to_pixels(torch.tensor([-99.0, 0.0, 99.0]).view(1, 1, 1, 3), this).flatten()
    low, high = -this.mean[0] / this.std[0], (1 - this.mean[0]) / this.std[0]
    assert clipped.tolist() == pytest.approx([low, 0.0, high])


def test_the_splits_to_train_and_to_measure_on_can_be_chosen(
    tiny_run: Path, small_fashion: Path, tmp_path: Path
) -> None:
    for name, file in (("train", "train"), ("val", "test"), ("extra", "test"), ("test", "train")):
        (tmp_path / f"{name}.parquet").symlink_to(small_fashion / f"{file}.parquet")
    _, usual = open_experiment(recipe(tiny_run, tmp_path))
    assert (len(usual.train), len(usual.test)) == (120, 120)
    _, chosen = open_experiment(recipe(tiny_run, tmp_path, split="val", train_split="extra"))
    assert (len(chosen.train), len(chosen.test)) == (40, 40)
