"""Guesses for messages: what kind of file has such keys."""

import re
from collections.abc import Iterable

SIGNS = (
    (r"^encoder\.blocks\.|^decoder\.blocks\.", "an autoencoder of OpenMAE that lost its metadata"),
    (r"^model\.embed_tokens|^transformer\.h\.|^lm_head", "a language model"),
    (r"relative_position_bias_table.*|^blocks\.\d+\.gamma_1$", "a BEiT or a Swin Transformer"),
    (r"^(backbone\.)?stages\.\d+|downsample\.(reduction|norm)", "a hierarchical network (Swin, ConvNeXt, Hiera)"),
    (r"(^|\.)layer1\.0\.conv1", "a ResNet"),
    (r"^visual\.transformer\.|^visual\.conv1|^vision_model\.", "a CLIP model in the layout of its authors"),
    (r"^(dist_token|.*distillation_token)$", "a distilled DeiT, whose second token OpenMAE does not build"),
    (r"layer_scale1\.lambda1", "a DINOv2 of Hugging Face"),
    (r"^register_tokens$", "a DINOv2 with registers in the layout of its authors"),
    (r"^(momentum_encoder|encoder_q|encoder_k|queue)", "a MoCo"),
    (r"^student\.|^teacher\.", "a whole training state of DINO"),
    (r"^decoder\.0\.weight$", "a SimMIM of Hugging Face"),
    (r"rope|w12\.weight|^blocks\.\d+\.attn\.q_proj", "an EVA or DINOv3, which turn positions into rotations"),
    (r"\.ls1\.gamma$|\.norm_pre\.|^norm_pre\.|^reg_token$|^attn_pool\.", "a DINOv2, CLIP or SigLIP tower of timm"),
    (r"^decoder_blocks\.", "a masked autoencoder in fair's layout"),
    (r"^neck\.decoder_blocks\.", "a masked autoencoder of MMSelfSup or MMPretrain"),
    (r"^(backbone\.)?patch_embed\.projection\.", "a Vision Transformer of MMPretrain"),
    (r"embeddings\.patch_embeddings\.projection\.", "a Vision Transformer of Hugging Face"),
    (r"^patch_embed\.proj\.", "a Vision Transformer with timm's names"),
    (r"(^|\.)conv\d*\.weight$", "a convolutional network"),
)
"""The first pattern that a key matches decides."""


def looks_like(keys: Iterable[str]) -> str:
    """The kind of file that has these keys; "" when nothing is known about them."""
    listed = list(keys)
    for sign, words in SIGNS:
        if any(re.search(sign, key) for key in listed):
            return words
    return ""


def appearance(keys: Iterable[str]) -> str:
    """The same as part of a sentence: "; it looks like a ResNet" without the semicolon, or nothing."""
    words = looks_like(keys)
    return f", which looks like {words}" if words else ""
