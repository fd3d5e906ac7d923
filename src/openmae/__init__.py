"""OpenMAE: masked-autoencoder pre-training on people's own images.

>>> import openmae
>>> openmae.kept_count(196, 0.75)
49
"""

from collections.abc import Callable
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
    from openmae.evaluation.classifier import Classifier as Classifier
    from openmae.evaluation.classifier import load_classifier as load_classifier
    from openmae.recipes import find_recipe as find_recipe
    from openmae.reporter import quiet as quiet
    from openmae.verbs import *  # noqa: F403
    from openmae.weights.building import load_autoencoder as load_autoencoder
    from openmae.weights.building import load_encoder as load_encoder

__version__ = "0.1.0"

# Loaded on first use: importing openmae alone must not cost the seconds that importing torch does.
_HOME = {
    "Classifier": "openmae.evaluation.classifier",
    "DecoderConfig": "openmae.core.decoder",
    "MAEOutput": "openmae.core.model",
    "Mask": "openmae.core.masking",
    "MaskedAutoencoder": "openmae.core.model",
    "find_recipe": "openmae.recipes",
    "kept_count": "openmae.core.masking",
    "load_autoencoder": "openmae.weights.building",
    "load_classifier": "openmae.evaluation.classifier",
    "load_encoder": "openmae.weights.building",
    "mask_from_noise": "openmae.core.masking",
    "quiet": "openmae.reporter",
    "random_mask": "openmae.core.masking",
}


def _verbs() -> dict[str, Callable[..., Any]]:
    """The verbs as functions, by name ("class-mean" is class_mean); the one list of them is `openmae.verbs.VERBS`.

    A verb whose function has another name is a command only: `openmae.recipes` is the package of the recipes.
    """
    from openmae.verbs import VERBS

    names = {name.replace("-", "_"): verb.run for name, verb in VERBS.items()}
    return {name: function for name, function in names.items() if function.__name__ == name}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return ["__version__", *_HOME, *_verbs()]
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if not name.startswith("_") and name in _verbs():
        return _verbs()[name]
    raise AttributeError(f"module 'openmae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__getattr__("__all__"))
