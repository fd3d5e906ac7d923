"""The model against Hugging Face's ViTMAEForPreTraining with the same weights and the same noise."""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from openmae.core.decoder import DecoderConfig
from openmae.core.masking import mask_from_noise
from openmae.core.model import MAEOutput, MaskedAutoencoder

transformers: Any = pytest.importorskip("transformers", minversion="5", reason="these names are of transformers 5")

IMAGE, PATCH, KEPT = 20, 4, 6  # a grid of 5x5; 6 = int(25 * 0.25)
ENCODER = {"embed_dim": 16, "depth": 2, "num_heads": 2}
DECODER = DecoderConfig(width=24, depth=2, heads=3)

LEAVES = {
    "attn.proj": "attention.o_proj",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
NAMES = {
    "encoder.cls_token": "vit.embeddings.cls_token",
    "encoder.pos_embed": "vit.embeddings.position_embeddings",
    "encoder.patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
    "encoder.norm": "vit.layernorm",
    "decoder.embed": "decoder.decoder_embed",
    "decoder.mask_token": "decoder.mask_token",
    "decoder.pos_embed": "decoder.decoder_pos_embed",
    "decoder.norm": "decoder.decoder_norm",
    "decoder.pred": "decoder.decoder_pred",
}


def theirs(channels: int, *, normalise: bool) -> Any:
    config = transformers.ViTMAEConfig(
        image_size=IMAGE,
        patch_size=PATCH,
        num_channels=channels,
        hidden_size=ENCODER["embed_dim"],
        num_hidden_layers=ENCODER["depth"],
        num_attention_heads=ENCODER["num_heads"],
        intermediate_size=4 * ENCODER["embed_dim"],
        decoder_hidden_size=DECODER.width,
        decoder_num_hidden_layers=DECODER.depth,
        decoder_num_attention_heads=DECODER.heads,
        decoder_intermediate_size=4 * DECODER.width,
        layer_norm_eps=1e-6,
        mask_ratio=0.75,
        norm_pix_loss=normalise,
    )
    return transformers.ViTMAEForPreTraining(config).eval()


def renamed(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dictionary under the names that transformers 5 uses in memory."""
    result = {}
    for name, tensor in ours.items():
        part, _, kind = name.rpartition(".")
        if name in NAMES:
            result[NAMES[name]] = tensor
        elif part in NAMES:
            result[f"{NAMES[part]}.{kind}"] = tensor
        else:
            side, _, number, leaf = part.split(".", maxsplit=3)
            layer = f"{'vit.layers' if side == 'encoder' else 'decoder.decoder_layers'}.{number}"
            if leaf == "attn.qkv":
                for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                    result[f"{layer}.attention.{letter}_proj.{kind}"] = third
            else:
                result[f"{layer}.{LEAVES[leaf]}.{kind}"] = tensor
    return result


@pytest.mark.parametrize("normalise", [True, False], ids=["normalised", "raw"])
@pytest.mark.parametrize("channels", [1, 3])
def test_loss_and_prediction_equal_transformers(channels: int, normalise: bool) -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=IMAGE, patch_size=PATCH, in_chans=channels, num_classes=0, **ENCODER)
    model = MaskedAutoencoder(vit, decoder=DECODER, normalise_target=normalise).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.2)
    reference = theirs(channels, normalise=normalise)
    reference.load_state_dict(renamed(model.state_dict()), strict=True)

    images, noise = torch.randn(3, channels, IMAGE, IMAGE), torch.rand(3, 25)
    mask = mask_from_noise(noise, KEPT)
    with torch.no_grad():
        ours: MAEOutput = model(images, mask)
        expected = reference(images, noise=noise)

    hidden = mask.as_grid()
    assert torch.equal(hidden, expected.mask.bool())
    torch.testing.assert_close(ours.loss, expected.loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(ours.prediction[hidden], expected.logits[hidden], rtol=1e-5, atol=1e-5)
    assert expected.logits[hidden].std() > 0.1
