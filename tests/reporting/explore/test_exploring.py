"""What the page shows is what the network makes of the image and the mask."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openmae.core.masking import Mask
from openmae.core.patches import normalise_patches
from openmae.data.sources import open_data
from openmae.errors import UserError
from openmae.reporting.explore import drawing, opening
from openmae.reporting.explore.exploring import Explorer
from openmae.reporting.explore.opening import open_explorer


@pytest.fixture(scope="module")
def explorer(tiny_run: Path) -> Explorer:
    """The tiny run with half of its images."""
    return open_explorer(tiny_run, data=None, images=60)


@pytest.mark.parametrize("normalise_target", [True, False])
def test_the_error_is_the_loss_under_the_mask_that_was_clicked(
    explorer: Explorer, normalise_target: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer.loaded.model, "normalise_target", normalise_target)
    pixels = explorer.from_data(3)
    hidden = np.zeros((7, 7), dtype=bool)
    hidden[2, 3] = hidden[4, 2] = True
    made = explorer.reconstruct(pixels, hidden)
    network, model = explorer.loaded.network, explorer.loaded.model
    image = (torch.tensor(pixels).permute(2, 0, 1)[None] / 255 - network.mean[0]) / network.std[0]
    places = torch.arange(49)[None]
    dropped = torch.tensor([[2 * 7 + 3, 4 * 7 + 2]])
    kept = places[:, [place for place in range(49) if place not in dropped]]
    assert made.error == pytest.approx(model(image, Mask(kept, dropped, (7, 7))).loss.item(), rel=1e-4)
    assert made.hidden == 2
    assert made.error < made.largest < 2 * made.error
    targets = model.geometry.patchify(image)[0, dropped[0]]
    if normalise_target:
        targets = normalise_patches(targets)
    assert made.flat == pytest.approx((targets - targets.mean(dim=1, keepdim=True)).square().mean().item(), rel=1e-4)


def test_only_hidden_patches_are_replaced_unless_all_are_wanted(explorer: Explorer) -> None:
    pixels, hidden = explorer.from_data(0), explorer.random_mask(0.5, seed=1)
    small = drawing.enlarged(drawing.as_colours(pixels))
    here = drawing.over_patches(hidden, small)
    changed = (explorer.reconstruct(pixels, hidden).reconstruction != small).any(axis=2)
    assert changed[here].any()
    assert not changed[~here].any()
    whole = explorer.reconstruct(pixels, hidden, everything=True).reconstruction
    assert (whole != small).any(axis=2)[~here].any()
    masked = explorer.reconstruct(pixels, hidden).masked
    lines = np.arange(masked.shape[0]) % (masked.shape[0] // 7) == 0
    inside = here & ~lines & ~lines[:, None]
    assert (masked[inside] == 128).all()
    assert (masked[~here & ~lines & ~lines[:, None]] == small[~here & ~lines & ~lines[:, None]]).all()


def test_a_click_finds_its_patch_at_every_corner(explorer: Explorer) -> None:
    side = explorer.reconstruct(explorer.from_data(0), explorer.random_mask(0.5, seed=0)).masked.shape[0]
    assert side == 448
    assert explorer.patch_at(0, 0) == (0, 0)
    assert explorer.patch_at(63, 64) == (1, 0)
    assert explorer.patch_at(447, 447) == (6, 6)
    assert explorer.patch_at(448, 130) == (2, 6)


def test_a_patch_is_hidden_and_shown_again_but_one_of_each_kind_stays(explorer: Explorer) -> None:
    hidden = explorer.random_mask(0.98, seed=0)
    assert (~hidden).sum() == 1
    row, column = map(int, np.argwhere(~hidden)[0])
    with pytest.raises(ValueError, match="last visible patch"):
        explorer.toggled(hidden, row, column)
    with pytest.raises(ValueError, match="last hidden patch"):
        explorer.toggled(~hidden, row, column)
    other = (row + 1) % 7
    shown = explorer.toggled(hidden, other, column)
    assert np.argwhere(shown != hidden).tolist() == [[other, column]]
    assert np.array_equal(explorer.toggled(shown, other, column), hidden)


def test_a_larger_ratio_hides_the_same_patches_and_more(explorer: Explorer) -> None:
    few, many = explorer.random_mask(0.3, seed=4), explorer.random_mask(0.8, seed=4)
    assert (few <= many).all()
    assert few.sum() < many.sum()
    assert explorer.random_mask(0, seed=0).sum() == 1
    assert explorer.random_mask(1, seed=0).sum() == 48


def test_the_nearest_image_is_the_image_itself_unless_it_is_left_out(explorer: Explorer) -> None:
    assert explorer.bank is not None
    for place in (0, 17, 59):
        pixels = explorer.from_data(place)
        first, *_ = explorer.nearest(pixels, count=3)
        assert first.name == explorer.bank.name(place)
        assert first.similarity == pytest.approx(1, abs=1e-4)
        assert first.label == explorer.bank.label(place) != ""
        others = explorer.nearest(pixels, without=place, count=3)
        assert len(others) == 3
        assert first.name not in [other.name for other in others]


def test_a_dropped_file_is_seen_as_its_twin_in_the_data(
    explorer: Explorer, tmp_path: Path, small_fashion: Path
) -> None:
    assert explorer.bank is not None
    source = open_data(str(small_fashion)).train
    file = tmp_path / "a.png"
    file.write_bytes(source.read(int(explorer.bank.indices[5])))
    assert np.array_equal(explorer.from_file(file), explorer.from_data(5))
    file.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.png cannot be read \(not an image\)"):
        explorer.from_file(file)


def test_attention_of_a_head_and_of_all_are_drawn(explorer: Explorer) -> None:
    pixels = explorer.from_data(0)
    mean, first, second = (explorer.attention(pixels, head=head) for head in (None, 0, 1))
    assert mean.shape == (448, 448, 3)
    assert not np.array_equal(first, second)
    assert not np.array_equal(explorer.attention(pixels, block=0), mean)


def test_weights_without_a_decoder_say_what_still_works(tiny_run: Path) -> None:
    with pytest.raises(ValueError, match=r"without its decoder.*`openmae embed .* --atlas`"):
        open_explorer(tiny_run / "encoder.safetensors", data=None, images=5)


def test_data_that_moved_are_missed_but_not_fatal(
    tiny_run: Path, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(places: object) -> object:
        raise UserError(str(places))

    monkeypatch.setattr(opening, "open_data", gone)
    explorer = open_explorer(tiny_run, data=None, images=5)
    assert explorer.bank is None
    assert any("cannot be opened" in message and "--data" in message for message in said)
    with pytest.raises(ValueError, match="no data to take an image from"):
        explorer.from_data(0)
    assert explorer.nearest(np.zeros((28, 28, 1), dtype=np.uint8)) == []
    with pytest.raises(ValueError, match="elsewhere"):
        open_explorer(tiny_run, data="elsewhere", images=5)


def test_heat_is_lighter_the_larger_the_value() -> None:
    colours = drawing.heat(np.linspace(0, 1, 50)[None]).astype(float)
    lightness = colours[0] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()


def test_deep_pixels_become_colours() -> None:
    bands = np.random.default_rng(0).integers(0, 4000, (8, 8, 5)).astype(np.uint16)
    assert drawing.as_colours(bands).shape == (8, 8, 3)
    grey = np.asarray(Image.linear_gradient("L"))[..., None]
    assert np.array_equal(drawing.as_colours(grey), grey.repeat(3, axis=2))
