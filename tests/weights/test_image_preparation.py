"""timm prepares images for our encoders as `openmae embed` does, because the encoders say how they want them."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor

from openmae.core.encoder import encode_images
from openmae.core.network import Network
from openmae.data.decoding import PixelFormat, open_image
from openmae.data.transforms import normalise_pixels
from openmae.evaluation.features import evaluation_transform
from openmae.recipes.recipe import IMAGENET_MEAN, IMAGENET_STD
from openmae.recipes.values import usual_eval_resize
from openmae.weights.building import encoder_from, load_encoder
from openmae.weights.weights import Weights

SIZES = ((640, 427), (427, 640), (1001, 667), (333, 500), (100, 75), (1500, 400))


def network(size: tuple[int, int], **changes: Any) -> Network:
    usual = Network(
        backbone="vit_tiny_patch16_224",
        image_size=size,
        width=64,
        depth=2,
        heads=2,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        eval_resize=usual_eval_resize(size),
    )
    return replace(usual, **changes)


def prepared_by_us(of: Network, data: bytes) -> Tensor:
    transform, opened = evaluation_transform(of), open_image(data)
    crop = transform.plan(opened.height, opened.width, np.random.default_rng(0))
    pixels = opened.decode(PixelFormat(of.channels), shrink=transform.shrink(crop))
    cut = transform.cut(pixels, crop, opened.height, opened.width)
    return normalise_pixels(torch.tensor(cut).permute(2, 0, 1)[None], of.mean, of.std)


def smallest_cosine(of: Network, sizes: tuple[tuple[int, int], ...], mode: str) -> float:
    """The smallest cosine of the features of photographs (width, height) prepared by us and by timm."""
    torch.manual_seed(0)
    vit = encoder_from(Weights(tensors=of.build_encoder().state_dict(), network=of, file=Path("a.safetensors")))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(vit))
    photograph = Image.fromarray(load_sample_image("china.jpg")).convert(mode)
    found = []
    for size in sizes:
        file = io.BytesIO()
        photograph.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
        ours = prepared_by_us(of, file.getvalue())
        theirs = transform(Image.open(file))[None]
        with torch.inference_mode():
            one, other = (encode_images(vit, images)[:, 1:].mean(dim=1) for images in (ours, theirs))
        found.append(float(torch.cosine_similarity(one, other)))
    return min(found)


@pytest.mark.parametrize("side", [224, 64, 32])
def test_timm_prepares_photographs_as_we_do(side: int) -> None:
    assert smallest_cosine(network((side, side)), SIZES, "RGB") >= 0.999


@pytest.mark.parametrize(
    ("of", "mode"),
    [
        (network((64, 64), channels=1, mean=(0.3,), std=(0.2,)), "L"),
        (network((64, 64), interpolation="bilinear", eval_resize=90), "RGB"),
        (network((96, 128)), "RGB"),
    ],
    ids=["grey", "bilinear", "not square"],
)
def test_it_does_so_for_other_pixels_filters_and_sizes(of: Network, mode: str) -> None:
    assert smallest_cosine(of, ((640, 427), (1001, 667), (1600, 400)), mode) >= 0.999


@pytest.mark.parametrize("side", range(64, 449, 16))
def test_the_size_to_resize_to_survives_as_a_share(side: int) -> None:
    of = network((side, side))
    vit = encoder_from(Weights(tensors=of.build_encoder().state_dict(), network=of, file=Path("a.safetensors")))
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(vit))
    assert transform.transforms[0].size == of.eval_resize


def test_an_encoder_names_no_weights_of_timm(tiny_run: Path) -> None:
    described = load_encoder(tiny_run).pretrained_cfg
    assert described["input_size"] == (1, 28, 28)
    assert (described["mean"], described["std"], described["crop_pct"]) == ((0.286,), (0.353,), 1.0)
    assert not {"url", "hf_hub_id", "file"} & set(described)
