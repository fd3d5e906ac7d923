"""Where an encoder looks: the attention of one block over the patches of images."""

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from openmae.core.encoder import encode_images, encoder_geometry
from openmae.errors import UserError


@torch.inference_mode()
def attention_maps(vit: VisionTransformer, images: Tensor, block: int = -1) -> Tensor:
    """The attention of the class token to every patch in one block: [B, heads, rows, columns], float32 on the CPU.

    Without a class token, the mean of what all patches pay. The rest, up to a sum of 1 over the patches, goes to the
    class token itself and to the registers (DINO, arXiv 2104.14294, section 4.1, shows the last block so).

    The attention is computed from the queries and keys as they pass, so it is the same whether or not the block itself
    uses a fused kernel, which never holds it. The network is left as it was.

    Args:
        vit: a plain timm VisionTransformer; its train/eval mode is the caller's choice.
        images: as the network receives them, normalised [B, C, H, W], on its device.
        block: which block; -1 is the last.

    Raises:
        UserError: when there is no such block, or its attention is of a kind of its own.
    """
    attention = _attention_of(vit, block)
    queries: list[Tensor] = []
    keys: list[Tensor] = []
    # The last modules that queries and keys pass before they meet: their norms, or identities in the place of these.
    hooks = [
        attention.q_norm.register_forward_hook(lambda *passed: queries.append(passed[-1])),
        attention.k_norm.register_forward_hook(lambda *passed: keys.append(passed[-1])),
    ]
    try:
        encode_images(vit, images)
    finally:
        for hook in hooks:
            hook.remove()
    prefix = vit.num_prefix_tokens
    asking_BhQd = queries[0][:, :, :1] if vit.cls_token is not None else queries[0][:, :, prefix:]
    maps = [_mean_attention(q, k, attention.scale)[:, prefix:] for q, k in zip(asking_BhQd, keys[0], strict=True)]
    rows, columns = encoder_geometry(vit).grid
    return torch.stack(maps).cpu().reshape(len(images), -1, rows, columns)


def _mean_attention(queries_hQd: Tensor, keys_hTd: Tensor, scale: float) -> Tensor:
    """What the queries of one image pay to each token, on average: [heads, T].

    One image at a time: without a class token every patch asks every other.
    """
    logits_hQT = (queries_hQd.float() * scale) @ keys_hTd.float().transpose(-2, -1)
    return logits_hQT.softmax(dim=-1).mean(dim=1)


def _attention_of(vit: VisionTransformer, block: int) -> Attention:
    depth = len(vit.blocks)
    if not -depth <= block < depth:
        raise UserError(
            f"the encoder has no block {block}, but {depth}; give one of 0 … {depth - 1}, or -1 for the last"
        )
    attention = getattr(vit.blocks[block], "attn", None)
    # Another class, even a derived one, may do something else with its queries and keys.
    if type(attention) is not Attention:
        raise UserError(
            f"the blocks of this encoder ({type(vit.blocks[block]).__name__}) have no plain attention that could be "
            "shown; use the encoder of a plain vit_* model"
        )
    return attention
