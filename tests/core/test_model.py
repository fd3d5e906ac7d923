"""The masked autoencoder as a whole."""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from openmae.core.decoder import DecoderConfig
from openmae.core.masking import Mask, mask_from_noise, random_mask
from openmae.core.model import MAEOutput, MaskedAutoencoder
from openmae.core.patches import normalise_patches
from openmae.core.positions import AxisOrder, sincos_positions

SMALL_DECODER = DecoderConfig(width=16, depth=1, heads=2)


def build_vit(*, image: tuple[int, int] = (12, 16), width: int = 16, **options: Any) -> VisionTransformer:
    torch.manual_seed(0)
    settings = {"num_classes": 0, "patch_size": 4, "depth": 2, "num_heads": 2, **options}
    return VisionTransformer(img_size=image, embed_dim=width, **settings)


def build(*, normalise_target: bool = True, **options: Any) -> MaskedAutoencoder:
    return MaskedAutoencoder(build_vit(**options), decoder=SMALL_DECODER, normalise_target=normalise_target)


def some_images(model: MaskedAutoencoder, *, batch: int = 2) -> Tensor:
    shape = (batch, model.channels, *model.geometry.size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def some_mask(model: MaskedAutoencoder, *, batch: int = 2, kept: int = 3) -> Mask:
    return random_mask(batch=batch, patches=model.geometry.grid, kept=kept, generator=torch.Generator().manual_seed(2))


def run(model: MaskedAutoencoder, images: Tensor, mask: Mask) -> MAEOutput:
    out: MAEOutput = model(images, mask)
    return out


def test_output_has_loss_prediction_and_the_mask_used() -> None:
    model = build()
    mask = some_mask(model)
    out = run(model, some_images(model), mask)
    assert out.loss.shape == ()
    assert out.prediction.shape == (2, 12, 4 * 4 * 3)
    assert out.mask is mask
    assert model.geometry.patches == 12


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_loss_ignores_visible_patches(value: float) -> None:
    model = build()
    mask = some_mask(model)
    patches, prediction = model.geometry.patchify(some_images(model)), torch.randn(2, 12, 48)
    visible = ~mask.as_grid().flatten(1).unsqueeze(-1)
    loss = model.loss(patches, prediction, mask)
    assert torch.equal(model.loss(patches, prediction.masked_fill(visible, value), mask), loss)
    assert torch.equal(model.loss(patches.masked_fill(visible, value), prediction, mask), loss)


def test_loss_counts_every_hidden_value_equally() -> None:
    model = build(normalise_target=False)
    mask = some_mask(model)
    patches = model.geometry.patchify(some_images(model))
    assert model.loss(patches, patches, mask).item() == 0
    hidden = mask.as_grid().flatten(1)
    assert model.loss(patches, patches + 2 * hidden.unsqueeze(-1), mask).item() == pytest.approx(4)
    for image, patch in ((0, 0), (1, -1)):
        prediction = patches.clone()
        prediction[image, mask.dropped[image, patch], 7] += 3
        assert model.loss(patches, prediction, mask).item() == pytest.approx(3**2 / (2 * 9 * 48), rel=1e-4)


def test_target_is_normalised_per_patch_only_when_asked() -> None:
    normalised, raw = build(normalise_target=True), build(normalise_target=False)
    mask = some_mask(normalised)
    patches = normalised.geometry.patchify(some_images(normalised)) * 5 + 2
    assert normalised.loss(patches, normalise_patches(patches), mask).item() == 0
    assert raw.loss(patches, patches, mask).item() == 0
    assert raw.loss(patches, normalise_patches(patches), mask).item() > 1


def test_hidden_pixels_change_the_loss_but_not_the_prediction() -> None:
    model = build(normalise_target=False)
    images, mask = some_images(model), some_mask(model)
    hidden = mask.as_grid().repeat_interleave(4, dim=1).repeat_interleave(4, dim=2).unsqueeze(1)
    before, after = run(model, images, mask), run(model, images + 5 * hidden, mask)
    assert torch.equal(before.prediction, after.prediction)
    assert after.loss > before.loss + 1


def test_loss_is_the_loss_of_the_prediction() -> None:
    model = build()
    images, mask = some_images(model), some_mask(model)
    out = run(model, images, mask)
    assert torch.equal(model.loss(model.geometry.patchify(images), out.prediction, mask), out.loss)


def test_class_token_reaches_the_prediction_through_the_decoder() -> None:
    model = build()
    images, mask = some_images(model), some_mask(model)
    with torch.no_grad():
        tokens = model.encode(images, mask)
        perturbed = tokens.clone()
        perturbed[:, 0] += 1
        before, after = model.decoder(tokens, mask), model.decoder(perturbed, mask)
        assert torch.equal(before, run(model, images, mask).prediction)
    assert tokens.shape[1] == 1 + 3
    assert before.shape[1] == 12
    assert not torch.allclose(before, after, atol=1e-4)


def test_encode_without_a_mask_is_timms_forward_features() -> None:
    model = build(reg_tokens=4).double().eval()
    images = some_images(model).double()
    with torch.no_grad():
        torch.testing.assert_close(model.encode(images), model.encoder.forward_features(images), rtol=0, atol=1e-12)


def test_training_mode_changes_nothing_without_dropout() -> None:
    model = build()
    images, mask = some_images(model), some_mask(model)
    assert torch.equal(run(model.train(), images, mask).loss, run(model.eval(), images, mask).loss)


def test_images_of_a_batch_do_not_influence_each_other() -> None:
    model = build()
    images, mask = some_images(model), some_mask(model)
    alone = run(model, images[:1], Mask(mask.kept[:1], mask.dropped[:1], mask.grid)).prediction
    torch.testing.assert_close(run(model, images, mask).prediction[:1], alone)


def test_loss_stays_in_single_precision_under_autocast() -> None:
    model = build()
    images, mask = some_images(model), some_mask(model)
    exact = run(model, images, mask).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = run(model, images, mask)
    torch.autograd.backward(out.loss)
    assert out.prediction.dtype == torch.bfloat16
    assert out.loss.dtype == torch.float32
    assert out.loss.item() == pytest.approx(exact.item(), rel=0.01)


def test_target_of_half_precision_images_is_normalised_in_single_precision() -> None:
    model = build()
    mask = some_mask(model)
    patches = model.geometry.patchify(some_images(model)).bfloat16()
    loss = model.loss(patches, torch.zeros(2, 12, 48, dtype=torch.bfloat16), mask)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, model.loss(patches.float(), torch.zeros(2, 12, 48), mask))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reg_tokens": 4},
        {"class_token": False, "global_pool": "avg"},
        {"global_pool": "avg"},
        {"global_pool": "map"},
        {"num_classes": 10},
    ],
    ids=str,
)
def test_every_trainable_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    # DistributedDataParallel stops at the first one that does not.
    model = build(**options)
    torch.autograd.backward(run(model, some_images(model), some_mask(model)).loss)
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    frozen = {name.split(".")[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen - {"head", "fc_norm", "attn_pool"} == {"pos_embed"}


@pytest.mark.parametrize("order", ["column-first", "row-first"])
def test_both_position_tables_are_fixed_and_of_the_order_asked_for(order: AxisOrder) -> None:
    model = MaskedAutoencoder(build_vit(width=24, reg_tokens=2), decoder=SMALL_DECODER, axis_order=order)
    for table, width in ((model.encoder.pos_embed, 24), (model.decoder.pos_embed, 16)):
        assert table is not None
        assert not table.requires_grad
        assert torch.equal(table, sincos_positions(width, (3, 4), prefix_tokens=3, axis_order=order))


def test_whole_model_is_initialised_as_the_reference() -> None:
    vit = build_vit(width=256, depth=1)
    model = MaskedAutoencoder(vit, decoder=DecoderConfig(width=128, depth=1, heads=4), mlp_bias_std=1e-6)
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            outputs, inputs = part.weight.flatten(1).shape
            bound = (6 / (inputs + outputs)) ** 0.5
            assert 0.99 * bound < part.weight.abs().max().item() <= bound, name
            assert part.bias is not None
            if ".mlp." in name:
                assert part.bias.std().item() == pytest.approx(1e-6, rel=0.4), name
            else:
                assert not part.bias.any(), name
        elif isinstance(part, nn.LayerNorm):
            assert torch.equal(part.weight, torch.ones_like(part.weight)), name
            assert not part.bias.any(), name
    assert model.encoder.cls_token is not None
    for token in (model.encoder.cls_token, model.decoder.mask_token):
        assert token.std().item() == pytest.approx(0.02, rel=0.2)


def test_same_seed_builds_the_same_model() -> None:
    first, second = build().state_dict(), build().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("vit_base_patch16_224", 111.91), ("vit_large_patch16_224", 329.54), ("vit_huge_patch14_224", 657.07)],
)
def test_parameter_count_is_the_published_one(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = MaskedAutoencoder(name)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions


def test_encoder_named_with_options_is_built_with_them() -> None:
    model = MaskedAutoencoder(
        "vit_tiny_patch16_224", decoder=SMALL_DECODER, image_size=(12, 18), patch_size=6, channels=1, width=32, heads=2
    )
    geometry = model.geometry
    assert (geometry.size, geometry.patch, geometry.grid, model.channels) == ((12, 18), (6, 6), (2, 3), 1)
    assert run(model, some_images(model), some_mask(model)).prediction.shape == (2, 6, 36)


def test_options_for_an_encoder_that_is_built_already_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size, channels: an encoder given as a module is already built; drop"):
        MaskedAutoencoder(build_vit(), image_size=(12, 12), channels=3)


@pytest.mark.parametrize("shape", [(2, 3, 12, 20), (2, 3, 16, 12), (2, 1, 12, 16), (3, 12, 16)])
def test_images_of_another_shape_than_the_models_are_refused(shape: tuple[int, ...]) -> None:
    model = build()
    found = "x".join(map(str, shape))
    with pytest.raises(ValueError, match=f"the images are {found} but the model was built for batches of 3x12x16"):
        model(torch.zeros(shape), some_mask(model))
    with pytest.raises(ValueError, match=f"the images are {found}"):
        model.encode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("patches", "found"), [(16, "16 patches"), ((4, 4), "a grid of 4x4"), ((4, 3), "a grid of 4x3")]
)
def test_mask_of_another_grid_is_refused(patches: int | tuple[int, int], found: str) -> None:
    model = build()
    mask = random_mask(batch=2, patches=patches, kept=3)
    with pytest.raises(ValueError, match=rf"covers {found} but the model has 3x4; build it with patches=\(3, 4\)"):
        model(some_images(model), mask)


def test_mask_that_only_knows_its_number_of_patches_is_accepted() -> None:
    model = build()
    images, mask = some_images(model), some_mask(model)
    assert torch.equal(run(model, images, mask._replace(grid=None)).loss, run(model, images, mask).loss)


@pytest.mark.parametrize("batch", [1, 3])
def test_mask_for_another_number_of_images_is_refused(batch: int) -> None:
    model = build()
    with pytest.raises(ValueError, match=f"the mask is for {batch} images, not 2; build it with batch=2"):
        model(some_images(model), some_mask(model, batch=batch))


def test_mask_that_hides_nothing_has_no_loss_but_an_encoding() -> None:
    model = build()
    images, mask = some_images(model), mask_from_noise(torch.rand(2, 12), kept=12)
    with pytest.raises(ValueError, match=r"hides no patch.*use encode\(\)"):
        model(images, mask)
    assert model.encode(images, mask).shape == (2, 13, 16)


def test_patches_that_do_not_count_have_no_part_in_the_loss() -> None:
    model = build()
    images, mask = some_images(model), some_mask(model)
    counted = torch.rand(2, model.geometry.patches, generator=torch.Generator().manual_seed(3)) < 0.5
    patches = model.geometry.patchify(images)
    other = torch.where(counted.unsqueeze(-1), patches, patches * 7 + 5)
    prediction = torch.randn_like(patches)
    assert torch.equal(model.loss(patches, prediction, mask, counted), model.loss(other, prediction, mask, counted))
    everything = torch.ones_like(counted)
    assert torch.allclose(model.loss(patches, prediction, mask, everything), model.loss(patches, prediction, mask))


def test_a_batch_in_which_nothing_counts_has_no_loss_and_finite_gradients() -> None:
    model = build()
    images, mask = some_images(model), some_mask(model)
    loss = model(images, mask, torch.zeros(2, model.geometry.patches, dtype=torch.bool)).loss
    loss.backward()
    assert loss.item() == 0
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
