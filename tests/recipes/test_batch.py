from dataclasses import replace

import pytest

from openmae.recipes import PretrainRecipe
from openmae.recipes.batch import fit_batch


@pytest.mark.parametrize(
    ("images", "even", "expected"),
    [(100, False, 40), (40, True, 40), (39, False, 39), (39, True, 38), (1, True, 1), (1, False, 1)],
)
def test_batch_shrinks_to_the_images_there_are(
    tiny_recipe: PretrainRecipe, images: int, even: bool, expected: int
) -> None:
    assert fit_batch(tiny_recipe, images, even=even) == replace(tiny_recipe, batch_size=expected)
