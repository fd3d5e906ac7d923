"""OpenMAE: masked-autoencoder pre-training on people's own images.

>>> import openmae
>>> openmae.kept_count(196, 0.75)
49
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openmae.core.decoder import DecoderConfig as DecoderConfig
    from openmae.core.masking import Mask as Mask
    from openmae.core.masking import kept_count as kept_count
    from openmae.core.masking import mask_from_noise as mask_from_noise
    from openmae.core.masking import random_mask as random_mask
    from openmae.core.model import MAEOutput as MAEOutput
    from openmae.core.model import MaskedAutoencoder as MaskedAutoencoder
    from openmae.recipes import find_recipe as find_recipe
    from openmae.verbs import check as check
    from openmae.verbs import demo as demo
    from openmae.verbs import embed as embed
    from openmae.verbs import finetune as finetune
    from openmae.verbs import knn as knn
    from openmae.verbs import linear as linear
    from openmae.verbs import pack as pack
    from openmae.verbs import pretrain as pretrain
    from openmae.verbs import reconstruct as reconstruct
    from openmae.weights.building import load_autoencoder as load_autoencoder
    from openmae.weights.building import load_encoder as load_encoder

__version__ = "0.1.0"

# Loaded on first use: importing openmae alone must not cost the seconds that importing torch does.
_HOME = {
    "DecoderConfig": "openmae.core.decoder",
    "MAEOutput": "openmae.core.model",
    "Mask": "openmae.core.masking",
    "MaskedAutoencoder": "openmae.core.model",
    "check": "openmae.verbs",
    "demo": "openmae.verbs",
    "embed": "openmae.verbs",
    "find_recipe": "openmae.recipes",
    "finetune": "openmae.verbs",
    "kept_count": "openmae.core.masking",
    "knn": "openmae.verbs",
    "linear": "openmae.verbs",
    "load_autoencoder": "openmae.weights.building",
    "load_encoder": "openmae.weights.building",
    "mask_from_noise": "openmae.core.masking",
    "pack": "openmae.verbs",
    "pretrain": "openmae.verbs",
    "random_mask": "openmae.core.masking",
    "reconstruct": "openmae.verbs",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'openmae' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
