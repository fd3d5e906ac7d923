"""The published files: for each row of the table the weights and the log, who published them, and under which licence.

OpenMMLab's file names carry the first eight hexadecimal digits of the SHA-256, and fair's README the first six of the
MD5. A row whose weights were never published has a figure and no `url`. Companies must look at the licence: fair's
weights are CC-BY-NC (no commercial use), OpenMMLab's are Apache-2.0.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from openmae.errors import UserError

Publisher = Literal["mm", "fair", "huggingface", "timm"]
Kind = Literal["encoder", "autoencoder", "finetuned", "linear"]
Target = Literal["normalised", "raw"]

MM = "https://download.openmmlab.com/mmselfsup/1.x/mae/"
FAIR = "https://dl.fbaipublicfiles.com/mae/"
APACHE, NO_COMMERCIAL_USE = "Apache-2.0", "CC-BY-NC-4.0"


@dataclass(frozen=True, kw_only=True)
class ZooEntry:
    """One published file, or one published figure whose weights were not published."""

    name: str
    """The name in `zoo:NAME`: the recipe's, and the publisher where that is not mm."""
    publisher: Publisher
    """Who published it: OpenMMLab, Facebook AI Research, or a copy of the latter on the Hugging Face hub."""
    recipe: str | None
    """Our recipe for this row; None for a training that we do not implement."""
    backbone: str
    """timm's name."""
    kind: Kind
    """Content of the file; a row without a file says what it would be."""
    image_size: int = 224
    """Side of the images, in pixels."""
    target: Target | None = None
    """Target of the decoder; None without a decoder."""
    url: str | None = None
    """Address of the weights; None when they were not published."""
    log: str | None = None
    """Address of the training log, a JSON object a line."""
    sha256: str = ""
    """First digits of the SHA-256 of the weights; "" when unknown."""
    md5: str = ""
    """First digits of the MD5 of the weights; "" when unknown."""
    licence: str
    """Licence of the weights, as an SPDX name."""
    top1: float | None = None
    """ImageNet-1k top-1 in per cent that was published for this row itself; pre-training rows have none."""
    note: str = ""
    """Advice to read before using it."""

    @property
    def has_decoder(self) -> bool:
        """Whether the file can reconstruct."""
        return self.target is not None

    @property
    def published(self) -> bool:
        """Whether there is a file."""
        return self.url is not None


BACKBONES = {
    "vit-b16": "vit_base_patch16_224",
    "vit-l16": "vit_large_patch16_224",
    "vit-h14": "vit_huge_patch14_224",
}


def _mm(recipe: str, top1: float | None, path: str | None, *, image_size: int = 224) -> ZooEntry:
    """A row of OpenMMLab; `path` is of the weights, and the log lies beside them."""
    kind: Kind = "autoencoder"
    if top1 is not None:
        kind = "linear" if "-linear" in recipe else "finetuned"
    return ZooEntry(
        name=recipe,
        publisher="mm",
        recipe=recipe,
        backbone=BACKBONES[recipe[:7]],
        kind=kind,
        image_size=image_size,
        target="normalised" if kind == "autoencoder" else None,
        url=None if path is None else f"{MM}{path}.pth",
        log=None if path is None else f"{MM}{path}.json",
        sha256="" if path is None else path.rpartition("-")[2],
        licence=APACHE,
        top1=top1,
    )


def _fair(backbone: str, size: str, *, md5: str, top1: float) -> Iterator[ZooEntry]:
    """The files of one size of the reference: encoder, classifier, and two autoencoders."""
    pretrained = f"{backbone}-1600e"
    encoder = ZooEntry(
        name=f"{pretrained}-fair",
        publisher="fair",
        recipe=pretrained,
        backbone=BACKBONES[backbone],
        kind="encoder",
        url=f"{FAIR}pretrain/mae_pretrain_vit_{size}.pth",
        licence=NO_COMMERCIAL_USE,
    )
    full = replace(encoder, name=f"{encoder.name}-full", kind="autoencoder", target="normalised")
    yield replace(encoder, md5=md5)
    yield replace(
        encoder,
        name=f"{pretrained}-finetune-fair",
        recipe=f"{pretrained}-finetune",
        kind="finetuned",
        url=f"{FAIR}finetune/mae_finetuned_vit_{size}.pth",
        top1=top1,
    )
    yield replace(full, url=f"{FAIR}pretrain/mae_pretrain_vit_{size}_full.pth")
    yield replace(
        full,
        name=f"{encoder.name}-pixels",
        target="raw",
        url=f"{FAIR}visualize/mae_visualize_vit_{size}.pth",
        note="trained to predict raw pixels, for pictures",
    )


def _copies(backbone: str, size: str, patch: int) -> Iterator[ZooEntry]:
    """Copies of the reference's files on the Hugging Face hub: the autoencoder for pixels, and the encoder in timm."""
    autoencoder = ZooEntry(
        name=f"{backbone}-1600e-huggingface",
        publisher="huggingface",
        recipe=f"{backbone}-1600e",
        backbone=BACKBONES[backbone],
        kind="autoencoder",
        target="raw",
        url=f"hf://facebook/vit-mae-{size}",
        licence=APACHE,
        note="fair's weights for raw pixels, under another licence",
    )
    yield autoencoder
    yield replace(
        autoencoder,
        name=f"{backbone}-1600e-timm",
        publisher="timm",
        kind="encoder",
        target=None,
        url=f"hf://timm/vit_{size}_patch{patch}_224.mae",
        licence=NO_COMMERCIAL_USE,
        note="fair's encoder",
    )


MM_B, MM_L = "mae_vit-base-p16_8xb512-fp16-coslr", "mae_vit-large-p16_8xb512-fp16-coslr"
MM_B_OLD = "mae_vit-base-p16_8xb512-coslr"  # of three files; their folders have the newer name
MM_H = "mae_vit-huge-p16_8xb512-fp16-coslr-1600e_in1k"
MM_B_TUNED, MM_H_TUNED = "vit-base-p16_ft-8xb128-coslr-100e_in1k", "vit-huge-p16_ft-8xb128-coslr-50e_in1k"
MM_H_TUNED_448 = "vit-huge-p16_ft-32xb8-coslr-50e_in1k-448"

ENTRIES = (
    _mm("vit-b16-300e-mm", None, f"{MM_B}-300e_in1k/{MM_B_OLD}-300e-fp16_in1k_20220829-c2cf66ba"),
    _mm("vit-b16-400e-mm", None, f"{MM_B}-400e_in1k/{MM_B_OLD}-400e-fp16_in1k_20220825-bc79e40b"),
    _mm("vit-b16-800e-mm", None, f"{MM_B}-800e_in1k/{MM_B_OLD}-800e-fp16_in1k_20220825-5d81fbc4"),
    _mm("vit-b16-1600e-mm", None, f"{MM_B}-1600e_in1k/{MM_B}-1600e_in1k_20220825-f7569ca2"),
    _mm("vit-l16-400e-mm", None, f"{MM_L}-400e_in1k/{MM_L}-400e_in1k_20220825-b11d0425"),
    _mm("vit-l16-800e-mm", None, f"{MM_L}-800e_in1k/{MM_L}-800e_in1k_20220825-df72726a"),
    _mm("vit-l16-1600e-mm", None, f"{MM_L}-1600e_in1k/{MM_L}-1600e_in1k_20220825-cc7e98c9"),
    _mm("vit-h14-1600e-mm", None, f"{MM_H}/{MM_H}_20220916-ff848775"),
    _mm("vit-b16-300e-linear-mm", 60.8, None),
    _mm("vit-b16-400e-linear-mm", 62.5, None),
    _mm("vit-b16-800e-linear-mm", 65.1, None),
    _mm("vit-b16-1600e-linear-mm", 67.1, None),
    _mm("vit-l16-400e-linear-mm", 70.7, None),
    _mm("vit-l16-800e-linear-mm", 73.7, None),
    _mm("vit-l16-1600e-linear-mm", 75.5, None),
    _mm("vit-b16-300e-finetune-mm", 83.1, None),
    _mm("vit-b16-400e-finetune-mm", 83.3, None),
    _mm("vit-b16-800e-finetune-mm", 83.3, None),
    _mm("vit-b16-1600e-finetune-mm", 83.5, f"{MM_B}-1600e_in1k/{MM_B_TUNED}/{MM_B_TUNED}_20220825-cf70aa21"),
    _mm("vit-l16-400e-finetune-mm", 85.2, None),
    _mm("vit-l16-800e-finetune-mm", 85.4, None),
    _mm("vit-l16-1600e-finetune-mm", 85.7, None),
    _mm("vit-h14-1600e-finetune-mm", 86.9, f"{MM_H}/{MM_H_TUNED}/{MM_H_TUNED}_20220916-0bfc9bfd"),
    _mm(
        "vit-h14-1600e-finetune-448-mm",
        87.3,
        f"{MM_H}/{MM_H_TUNED_448}/{MM_H_TUNED_448}_20220916-95b6a0ce",
        image_size=448,
    ),
    *_fair("vit-b16", "base", md5="8cad7c", top1=83.66),
    *_fair("vit-l16", "large", md5="b8b06e", top1=85.95),
    *_fair("vit-h14", "huge", md5="9bdbb0", top1=86.93),
    ZooEntry(
        name="vit-l16-fair-pixels-gan",
        publisher="fair",
        recipe=None,
        backbone=BACKBONES["vit-l16"],
        kind="autoencoder",
        target="raw",
        url=f"{FAIR}visualize/mae_visualize_vit_large_ganloss.pth",
        licence=NO_COMMERCIAL_USE,
        note="trained with an additional GAN loss, for sharper pictures",
    ),
    *_copies("vit-b16", "base", 16),
    *_copies("vit-l16", "large", 16),
    *_copies("vit-h14", "huge", 14),
)

ZOO: Mapping[str, ZooEntry] = MappingProxyType({entry.name: entry for entry in ENTRIES})


def find_published(name: str) -> ZooEntry:
    """The entry called `name`.

    Raises:
        UserError: when there is none; the message names the nearest.
    """
    entry = ZOO.get(name)
    if entry is not None:
        return entry
    near = difflib.get_close_matches(name, ZOO, n=3, cutoff=0.5)
    hint = (
        f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(list(ZOO)[:3])} and {len(ZOO) - 3} more"
    )
    raise UserError(f"nothing called {name!r} was published; {hint}")
