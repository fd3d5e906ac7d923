"""A run knows its images, its labels and the weights that it started from, and what may differ when it continues."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning_fabric import Fabric
from PIL import Image

from openmae.checkpoints.names import DATA, METRICS, RECIPE, RESULTS
from openmae.data.sources import open_data
from openmae.data.targets import Targets
from openmae.recipes import PretrainRecipe, Recipe, find_recipe
from openmae.recipes.saved import from_yaml, to_yaml
from openmae.training.continuing import keep_recorded, same_place
from openmae.training.pretraining import run_pretraining
from openmae.training.runs import open_run
from openmae.weights.reading import read_weights

pytestmark = pytest.mark.usefixtures("no_syncing")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight grey pictures of two classes, in the folder photos of the working directory."""
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        save(Path("photos") / f"c{number % 2}" / f"{number}.png", seed=number)
    return Path("photos")


def save(path: Path, *, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)


def recipe(**changes: Any) -> Recipe:
    return replace(find_recipe("fashion-mnist"), **{"data": "photos", **changes})


def labelled(**changes: Any) -> Recipe:
    return replace(find_recipe("fashion-mnist-linear"), **{"data": "photos", **changes})


def open_(made: Recipe, *, steps: int = 0, weights: Path | None = None, targets: Targets | None = None) -> None:
    """Open the run of this recipe in the folder "run", and log so many steps."""
    source = open_data(str(made.data), labels=made.labels).train
    run = open_run(
        Fabric(accelerator="cpu", devices=1),
        Path("run"),
        made,
        images={"train": source},
        targets=None if isinstance(made, PretrainRecipe) else {"train": targets or source.targets("class")},
        weights=None if weights is None else read_weights(weights),
    )
    try:
        for step in range(1, steps + 1):
            run.log(step, loss=1.0)
        if steps == 0:
            run.finished()
    finally:
        run.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda photos: save(photos / "c0/new.png", seed=1), "1 new; such as c0/new.png"),
        (lambda photos: (photos / "c0/0.png").unlink(), "1 gone; such as c0/0.png"),
        (lambda photos: (photos / "c0/0.png").write_bytes(b"other"), "1 of another size; such as c0/0.png"),
    ],
)
@pytest.mark.parametrize("made", [recipe, labelled])
def test_a_run_is_not_continued_on_changed_images_unless_the_user_accepts_them(
    photos: Path, said: list[str], change: Any, words: str, made: Any
) -> None:
    open_(made(), steps=1)
    change(photos)
    with pytest.raises(ValueError, match="was begun on other images") as refused:
        open_(made())
    assert f"({words}); give --accept-changed-data" in str(refused.value)
    open_(made(accept_changed_data=True), steps=1)
    assert said == [f"going on with changed images: {words}"]
    assert not from_yaml(Path("run", RECIPE).read_text()).accept_changed_data, "it was accepted once, not for ever"
    open_(made(), steps=1)
    assert len(said) == 1


def test_accepted_changes_are_in_the_results(photos: Path) -> None:
    open_(recipe(), steps=1)
    save(photos / "new.png", seed=1)
    run = open_run(
        Fabric(accelerator="cpu", devices=1),
        Path("run"),
        recipe(accept_changed_data=True),
        images={"train": open_data("photos").train},
    )
    assert run.finish({"loss": 1.0})["accepted_data_changes"] == ["1 new; such as new.png"]
    run.close()
    assert "accepted_data_changes" in json.loads(Path("run", RESULTS).read_text())


def test_labels_count_for_a_run_that_uses_them_only(photos: Path) -> None:
    lines = [f"c{number % 2}/{number}.png,{number % 2}" for number in range(8)]
    Path("labels.csv").write_text("\n".join(["path,label", *lines]))
    Path("swapped.csv").write_text("\n".join(["path,label", lines[0][:-1] + "1", *lines[1:]]))
    open_(recipe(labels="labels.csv"), steps=1)
    open_(recipe(labels="swapped.csv"))
    shutil.rmtree("run")
    open_(labelled(labels="labels.csv"), steps=1)
    with pytest.raises(ValueError, match=r"another label; such as c0/0.png"):
        open_(labelled(labels="swapped.csv"))


def test_the_same_place_may_be_spelled_otherwise(photos: Path, said: list[str]) -> None:
    Path("link").symlink_to("photos")
    for begun_by_an_older_version in (False, True):
        open_(recipe(), steps=1)
        for spelled in ("photos/", "./photos", str(photos.absolute()), "link", "photos/../photos"):
            if begun_by_an_older_version:
                Path("run", DATA).unlink()
                Path("run", RECIPE).write_text(to_yaml(recipe()))
            open_(recipe(data=spelled))
        assert len(said) == 5 * begun_by_an_older_version
        assert all("nobody recorded the images" in message for message in said)
    assert same_place(None, None)
    assert same_place("s3://a/b/", "s3://a/b")
    assert same_place(["a", "b/"], ["./a", "b"])
    assert not same_place("a", "b")
    assert not same_place(["a", "b"], ["b", "a"])


def test_a_folder_that_moved_with_the_same_images_is_said_and_one_with_others_refused(
    photos: Path, said: list[str]
) -> None:
    open_(recipe(), steps=1)
    photos.rename("moved")
    open_(recipe(data="moved"))
    assert said == ["the images of photos are now read from moved: the same names and sizes"]
    save(Path("photos") / "a.png", seed=3)
    with pytest.raises(ValueError, match=r"holds another run \(data moved there, photos now; images: 1 new, 8 gone"):
        open_(recipe())


def test_a_run_that_an_older_version_began_gets_a_record_of_its_images(photos: Path, said: list[str]) -> None:
    open_(recipe(), steps=1)
    Path("run", DATA).unlink()
    save(photos / "new.png", seed=1)
    open_(recipe())
    assert said == ["nobody recorded the images that run began with; those of now are recorded"]
    (photos / "new.png").unlink()
    with pytest.raises(ValueError, match=r"1 gone; such as new\.png"):
        open_(recipe())


def test_results_of_other_images_are_not_given_for_these(photos: Path, said: list[str]) -> None:
    open_(recipe(), steps=1)
    Path("run", RESULTS).write_text("{}")
    open_(recipe())
    assert said == ["run is already finished; delete it or use another --out to train again"]
    save(photos / "new.png", seed=1)
    with pytest.raises(ValueError, match=r"run holds the results of other images \(1 new; such as new.png\)"):
        open_(recipe())
    open_(recipe(accept_changed_data=True))
    assert "already finished on other images" in said[-1]


def test_the_weights_that_a_run_starts_from_are_known_by_their_tensors(
    photos: Path, tiny_run: Path, tiny_recipe: PretrainRecipe
) -> None:
    shutil.copytree(tiny_run, "one")
    open_(labelled(weights="one"), steps=1, weights=Path("one"))
    shutil.move("one", "two")
    open_(labelled(weights="two"), weights=Path("two"))
    run_pretraining(replace(tiny_recipe, seed=5, epochs=1), Path("one"))
    for spelled in ("one", "two"):
        shutil.rmtree("two")
        shutil.copytree("one", "two")
        with pytest.raises(ValueError, match=r"holds another run .weights two there, "):
            open_(labelled(weights=spelled), weights=Path(spelled))


def test_statistics_and_batch_stay_when_changed_images_are_accepted(photos: Path) -> None:
    asked = recipe(batch_size=64, accept_changed_data=True)
    begun = replace(asked, batch_size=8, mean=(0.25,))
    open_(begun, steps=1)
    filled = replace(asked, batch_size=9, mean=(0.5,))
    assert keep_recorded(Path("run"), asked, filled) == begun
    assert keep_recorded(Path("run"), asked, replace(asked, batch_size=64)).batch_size == 8
    not_accepted = replace(asked, accept_changed_data=False)
    assert keep_recorded(Path("run"), not_accepted, filled) == filled
    save(photos / "new.png", seed=1)
    with pytest.raises(ValueError, match=r"was begun on other images .1 new; such as new\.png"):
        open_(replace(filled, accept_changed_data=False))


def test_a_training_continues_on_changed_images_with_the_statistics_that_it_began_with(
    photos: Path, tiny_recipe: PretrainRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = replace(tiny_recipe, data="photos", normalize="from-data", optimizer="adamw", log_every=1)
    run_pretraining(begun, Path("run"))
    Path("run", RESULTS).unlink()
    Path("run", "checkpoints").rename("checkpoints")  # of the end; the run goes on from the beginning
    recorded = from_yaml(Path("run", RECIPE).read_text())
    save(photos / "white.png", seed=1)
    Image.new("L", (8, 8), 255).save(photos / "white.png")
    results = run_pretraining(replace(begun, accept_changed_data=True), Path("run"))
    assert from_yaml(Path("run", RECIPE).read_text()) == recorded
    assert results["accepted_data_changes"] == ["1 new; such as white.png"]
    assert Path("run", METRICS).is_file()
