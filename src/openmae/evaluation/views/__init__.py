"""What a network sees, as numbers that can be drawn: patch colours, attention, maps of images, neighbours, errors.

Pure functions: the same arguments give the same result, and nothing of the network is changed.
"""

from openmae.evaluation.views.attention import attention_maps
from openmae.evaluation.views.errors import fixed_masks, image_errors, patch_errors
from openmae.evaluation.views.neighbours import neighbours
from openmae.evaluation.views.patch_colours import patch_colours
from openmae.evaluation.views.projection import projection

__all__ = [
    "attention_maps",
    "fixed_masks",
    "image_errors",
    "neighbours",
    "patch_colours",
    "patch_errors",
    "projection",
]
