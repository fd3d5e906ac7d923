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
    from openmae.reporter import quiet as quiet
    from openmae.verbs import *  # noqa: F403
    from openmae.weights.building import load_autoencoder as load_autoencoder
    from openmae.weights.building import load_encoder as load_encoder

__version__ = "0.1.0"

# Loaded on first use: importing openmae alone must not cost the seconds that importing torch does.
_HOME = {
    "DecoderConfig": "openmae.core.decoder",
    "MAEOutput": "openmae.core.model",
    "Mask": "openmae.core.masking",
    "MaskedAutoencoder": "openmae.core.model",
    "find_recipe": "openmae.recipes",
    "kept_count": "openmae.core.masking",
    "load_autoencoder": "openmae.weights.building",
    "load_encoder": "openmae.weights.building",
    "mask_from_noise": "openmae.core.masking",
    "quiet": "openmae.reporter",
    "random_mask": "openmae.core.masking",
}


def _verbs() -> list[str]:
    """The verbs that are functions of the same name; the one list of them is `openmae.verbs.VERBS`."""
    from openmae.verbs import VERBS

    return [name for name, verb in VERBS.items() if verb.run.__name__ == name]


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return ["__version__", *_HOME, *_verbs()]
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if not name.startswith("_") and name in _verbs():
        return getattr(import_module("openmae.verbs"), name)
    raise AttributeError(f"module 'openmae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__getattr__("__all__"))
