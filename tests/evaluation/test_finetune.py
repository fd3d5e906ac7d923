"""Fine-tuning: starts from the pre-trained encoder, regularised as the recipe says, deterministic per step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from openmae.evaluation.finetune import build_classifier, classification_loss, clip_to_pixels, run_finetune
from openmae.evaluation.supervised import open_task, train_transform
from openmae.recipes import FinetuneRecipe, find_recipe
from openmae.recipes.recipe import ImageSize

QUIET = Console(quiet=True)


def recipe(weights: Path, data: Path, **changes: Any) -> FinetuneRecipe:
    found = find_recipe("fashion-mnist", "finetune")
    assert isinstance(found, FinetuneRecipe)
    small: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "epochs": 2, "batch_size": 40, "workers": 0}
    return replace(found, **{**small, "weights": str(weights), "data": str(data), **changes})


def test_classifier_starts_from_the_pretrained_blocks_with_a_fresh_head(tiny_run: Path, small_fashion: Path) -> None:
    this = recipe(tiny_run, small_fashion)
    vit = build_classifier(*open_task(this, Console(quiet=True)))
    trained = load_file(tiny_run / "encoder.safetensors")
    own = vit.state_dict()
    assert all(torch.equal(own[name], trained[name]) for name in own if name.startswith(("blocks.", "patch_embed.")))
    assert torch.equal(own["pos_embed"], trained["pos_embed"])
    assert vit.pos_embed.requires_grad, "positions are learnt when fine-tuning"
    assert torch.equal(own["fc_norm.weight"], torch.ones(32))
    assert float(own["head.weight"].std()) == pytest.approx(this.head_std, rel=0.2)


def test_untrained_classifier_has_other_blocks_but_the_same_positions(tiny_run: Path, small_fashion: Path) -> None:
    this = recipe(tiny_run, small_fashion, untrained=True)
    own = build_classifier(*open_task(this, Console(quiet=True))).state_dict()
    trained = load_file(tiny_run / "encoder.safetensors")
    assert not torch.equal(own["blocks.0.mlp.fc1.weight"], trained["blocks.0.mlp.fc1.weight"])
    assert torch.equal(own["pos_embed"], trained["pos_embed"])


def test_positions_are_resized_for_larger_images(tiny_run: Path, small_fashion: Path) -> None:
    this = recipe(tiny_run, small_fashion, image_size=ImageSize(56, 28), eval_resize=28)
    vit = build_classifier(*open_task(this, Console(quiet=True)))
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
    own = build_classifier(*open_task(this, Console(quiet=True))).state_dict()
    assert torch.equal(own["norm.weight"], load_file(tiny_run / "encoder.safetensors")["norm.weight"])


def test_run_learns_and_its_encoder_can_be_measured(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    result = run_finetune(
        recipe(tiny_run, small_fashion, epochs=30, base_lr=2e-2, mixup=0, cutmix=0), tmp_path / "run", QUIET
    )
    assert result["top1"] > 25, "chance is 10"
    from openmae.evaluation.knn import run_knn

    assert run_knn(tmp_path / "run", str(small_fashion), QUIET)["top1"] > 25


def test_few_labels_make_a_smaller_even_batch(tiny_run: Path, small_fashion: Path, tmp_path: Path) -> None:
    this = recipe(tiny_run, small_fashion, label_fraction=0.25, batch_size=128, epochs=1)
    assert run_finetune(this, tmp_path / "run", QUIET)["train_images"] == 30
    assert "batch_size: 30" in (tmp_path / "run" / "recipe.yaml").read_text()


def test_an_odd_batch_cannot_be_mixed_and_the_message_says_so(tiny_run: Path, small_fashion: Path) -> None:
    images, labels = torch.zeros(3, 1, 28, 28), torch.arange(3)
    with pytest.raises(ValueError, match=r"3 on each device .* is odd; use an even --batch-size, or --mixup 0"):
        classification_loss(recipe(tiny_run, small_fashion, mixup=0.8), 10)(Spy(), images, labels)
    plain = classification_loss(recipe(tiny_run, small_fashion, mixup=0.0, cutmix=0.0), 10)
    assert plain(Spy(), images, labels).isfinite()


def test_class_token_pooling_needs_a_class_token(tiny_run: Path, small_fashion: Path) -> None:
    this = recipe(tiny_run, small_fashion, pool="cls")
    this, task = open_task(this, Console(quiet=True))
    without = replace(this, backbone="vit_base_patch16_gap_224")
    with pytest.raises(ValueError, match=r"^vit_base_patch16_gap_224 has no class token; use --pool mean$"):
        build_classifier(without, task)


class Spy(nn.Module):
    """Remembers the images that reach the model."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.clone())
        return images.flatten(1)[:, :10]


def augmented(this: FinetuneRecipe, seed: int) -> tuple[Tensor, float]:
    spy, images = Spy(), torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(seed)
    loss = classification_loss(this, 10)(spy, images.clone(), torch.arange(8))
    return spy.seen[0], float(loss)


def test_mixing_and_erasing_depend_on_the_step_seed_only(tiny_run: Path, small_fashion: Path) -> None:
    this = recipe(tiny_run, small_fashion, erasing=0.5)
    first, second, other = augmented(this, 1), augmented(this, 1), augmented(this, 2)
    assert torch.equal(first[0], second[0])
    assert first[1] == second[1]
    assert not torch.equal(first[0], other[0])


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
