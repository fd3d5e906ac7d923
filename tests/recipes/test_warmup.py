from dataclasses import replace

import pytest

from openmae.recipes import find_recipe
from openmae.recipes.warmup import fit_warmup

LONG = find_recipe("vit-b16-800e")


@pytest.mark.parametrize(("epochs", "warmup"), [(800, 40), (120, 40), (119, 5.95), (60, 3), (20, 1), (1, 0.05)])
def test_a_warm_up_longer_than_a_third_of_the_run_is_shortened_in_proportion(epochs: int, warmup: float) -> None:
    fitted = fit_warmup(replace(LONG, epochs=epochs), named=LONG, given=False)
    assert fitted.recipe == replace(LONG, epochs=epochs, warmup_epochs=warmup)
    said = f"the warm-up is {warmup:g} of {epochs} epochs, in proportion to 40 of 800; --warmup-epochs sets another"
    assert fitted.note == ("" if warmup == 40 else said)


def test_a_warm_up_that_the_user_gave_is_kept_and_warned_of_when_it_is_too_long() -> None:
    given = replace(LONG, epochs=20, warmup_epochs=10)
    fitted = fit_warmup(given, named=LONG, given=True)
    assert fitted.recipe == given
    assert fitted.note.startswith("the warm-up takes 10 of 20 epochs, more than a third of the run; --warmup-epochs 2 ")
    assert fit_warmup(replace(given, warmup_epochs=6), named=LONG, given=True).note == ""


def test_a_recipe_that_was_made_so_is_kept_and_warned_of() -> None:
    made = replace(LONG, epochs=20)
    fitted = fit_warmup(made, named=made, given=False)
    assert fitted.recipe == made
    assert fitted.note.startswith("the warm-up takes 40 of 20 epochs")


@pytest.mark.parametrize(("epochs", "warmup"), [(20, 1), (90, 4.5), (400, 20)])
def test_the_warm_up_of_an_adaptation_is_a_twentieth_of_any_run(epochs: int, warmup: float) -> None:
    adapt = find_recipe("adapt")
    assert fit_warmup(replace(adapt, epochs=epochs), named=adapt, given=False).recipe.warmup_epochs == warmup
    given = replace(adapt, epochs=epochs, warmup_epochs=2)
    assert fit_warmup(given, named=adapt, given=True).recipe == given
