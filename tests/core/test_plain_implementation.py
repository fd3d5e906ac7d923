"""The model against a slow implementation of the paper, written with loops and nothing of ours or of timm's.

Legend: an image's tokens are a list of vectors [D]; `weights` are the model's parameters by name.
"""

import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from openmae.core.decoder import DecoderConfig
from openmae.core.masking import Mask, random_mask
from openmae.core.model import MAEOutput, MaskedAutoencoder

Weights = dict[str, Tensor]
PATCH = 2
ENCODER = {"embed_dim": 8, "depth": 2, "num_heads": 2}
DECODER = DecoderConfig(width=12, depth=2, heads=3)


def plain_loss(weights: Weights, images: Tensor, mask: Mask, grid: tuple[int, int], *, normalise: bool) -> Tensor:
    """Mean over all hidden patches of all images of the mean squared error of the patch's values."""
    errors = []
    for image, hidden in zip(images, mask.dropped.tolist(), strict=True):
        prediction = plain_reconstruction(weights, image, set(hidden), grid)
        for patch in hidden:
            target = plain_target(image, divmod(patch, grid[1]), normalise=normalise)
            squares = [(p - t) ** 2 for p, t in zip(prediction[patch], target, strict=True)]
            errors.append(sum(squares[1:], start=squares[0]) / len(squares))
    total: Tensor = sum(errors[1:], start=errors[0])
    return total / len(errors)


def plain_reconstruction(weights: Weights, image: Tensor, hidden: set[int], grid: tuple[int, int]) -> list[Tensor]:
    places = [(row, column) for row in range(grid[0]) for column in range(grid[1])]

    # Encoder: the class token (whose position is zero) and the visible patches.
    tokens = [weights["encoder.cls_token"][0, 0]]
    for index, place in enumerate(places):
        if index not in hidden:
            tokens.append(convolve(weights, image, place) + position(place, ENCODER["embed_dim"]))
    for number in range(ENCODER["depth"]):
        tokens = block(weights, f"encoder.blocks.{number}", tokens, heads=ENCODER["num_heads"])
    encoded = [layer_norm(weights, "encoder.norm", token) for token in tokens]

    # Decoder: every place holds its own encoded token or the mask token.
    visible = iter(linear(weights, "decoder.embed", token) for token in encoded)
    tokens = [next(visible)]
    for index, place in enumerate(places):
        token = weights["decoder.mask_token"][0, 0] if index in hidden else next(visible)
        tokens.append(token + position(place, DECODER.width))
    for number in range(DECODER.depth):
        tokens = block(weights, f"decoder.blocks.{number}", tokens, heads=DECODER.heads)
    tokens = [layer_norm(weights, "decoder.norm", token) for token in tokens]
    return [linear(weights, "decoder.pred", token) for token in tokens[1:]]


def plain_target(image: Tensor, place: tuple[int, int], *, normalise: bool) -> list[float]:
    """The values of a patch by row, column and channel."""
    top, left = place[0] * PATCH, place[1] * PATCH
    values = [
        float(image[channel, top + y, left + x])
        for y in range(PATCH)
        for x in range(PATCH)
        for channel in range(len(image))
    ]
    if not normalise:
        return values
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return [(value - mean) / math.sqrt(variance + 1e-6) for value in values]


def convolve(weights: Weights, image: Tensor, place: tuple[int, int]) -> Tensor:
    kernel, bias = weights["encoder.patch_embed.proj.weight"], weights["encoder.patch_embed.proj.bias"]
    outputs = []
    for out in range(len(kernel)):
        total = bias[out]
        for channel in range(len(image)):
            for y in range(PATCH):
                for x in range(PATCH):
                    pixel = image[channel, place[0] * PATCH + y, place[1] * PATCH + x]
                    total = total + kernel[out, channel, y, x] * pixel
        outputs.append(total)
    return torch.stack(outputs)


def position(place: tuple[int, int], width: int) -> Tensor:
    """Sines then cosines of the column, then of the row; rounded to single precision, in which the table is kept."""
    row, column = place
    quarter = width // 4
    rates = [1 / 10_000 ** (number / quarter) for number in range(quarter)]
    values = [wave(axis * rate) for axis in (column, row) for wave in (math.sin, math.cos) for rate in rates]
    return torch.tensor(values, dtype=torch.float64).float().double()


def block(weights: Weights, name: str, tokens: list[Tensor], *, heads: int) -> list[Tensor]:
    attended = attention(weights, f"{name}.attn", [layer_norm(weights, f"{name}.norm1", t) for t in tokens], heads)
    tokens = [token + update for token, update in zip(tokens, attended, strict=True)]
    return [token + mlp(weights, f"{name}.mlp", layer_norm(weights, f"{name}.norm2", token)) for token in tokens]


def attention(weights: Weights, name: str, tokens: list[Tensor], heads: int) -> list[Tensor]:
    width = len(tokens[0])
    size = width // heads
    joint = [linear(weights, f"{name}.qkv", token) for token in tokens]  # each: all queries, all keys, all values
    outputs = []
    for asking in joint:
        parts = []
        for head in range(heads):
            start = head * size
            query = asking[start : start + size]
            scores = [(query * asked[width + start : width + start + size]).sum() / math.sqrt(size) for asked in joint]
            powers = [score.exp() for score in scores]
            total = sum(powers[1:], start=powers[0])
            weighted = [
                power / total * asked[2 * width + start : 2 * width + start + size]
                for power, asked in zip(powers, joint, strict=True)
            ]
            parts.append(sum(weighted[1:], start=weighted[0]))
        outputs.append(linear(weights, f"{name}.proj", torch.cat(parts)))
    return outputs


def mlp(weights: Weights, name: str, token: Tensor) -> Tensor:
    inner = linear(weights, f"{name}.fc1", token)
    gelu = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
    return linear(weights, f"{name}.fc2", gelu)


def layer_norm(weights: Weights, name: str, token: Tensor) -> Tensor:
    mean = token.sum() / len(token)
    variance = ((token - mean) ** 2).sum() / len(token)
    return (token - mean) / (variance + 1e-6).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(weights: Weights, name: str, vector: Tensor) -> Tensor:
    rows = [(row * vector).sum() for row in weights[f"{name}.weight"]]
    return torch.stack(rows) + weights[f"{name}.bias"]


@pytest.mark.parametrize("normalise", [True, False], ids=["normalised", "raw"])
@pytest.mark.parametrize(
    ("grid", "channels"), [((2, 2), 3), ((2, 4), 1), ((3, 2), 5)], ids=["square", "wide-grey", "tall-5-channels"]
)
def test_loss_and_every_gradient_equal_the_plain_implementation(
    grid: tuple[int, int], channels: int, normalise: bool
) -> None:
    torch.manual_seed(0)
    size = (grid[0] * PATCH, grid[1] * PATCH)
    vit = VisionTransformer(img_size=size, patch_size=PATCH, in_chans=channels, num_classes=0, **ENCODER)
    model = MaskedAutoencoder(vit, decoder=DECODER, normalise_target=normalise).double()
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        for parameter in trainable.values():  # zeros and ones would hide mistakes
            parameter.normal_(std=0.5)
    images = torch.randn(2, channels, *size, dtype=torch.float64)
    mask = random_mask(batch=2, patches=grid, kept=grid[0] * grid[1] // 2, generator=torch.Generator().manual_seed(7))

    out: MAEOutput = model(images, mask)
    found = dict(zip(trainable, torch.autograd.grad(out.loss, list(trainable.values())), strict=True))
    loss = plain_loss(dict(trainable), images, mask, grid, normalise=normalise)
    expected = dict(zip(trainable, torch.autograd.grad(loss, list(trainable.values())), strict=True))

    assert out.loss.item() == pytest.approx(loss.item(), rel=1e-10)
    assert set(dict(model.named_parameters())) - set(trainable) == {"encoder.pos_embed", "decoder.pos_embed"}
    for name, gradient in expected.items():
        assert gradient.norm() > 1e-6, f"{name} plays no part, so its comparison would mean nothing"
        assert (found[name] - gradient).norm() <= 1e-10 * gradient.norm(), name
