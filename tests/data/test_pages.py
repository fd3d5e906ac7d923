"""`--pages images`: each page of a TIFF is an image of its own."""

from pathlib import Path

import numpy as np

from openmae.data.decoding import Reading, open_image
from openmae.data.pages import as_images
from openmae.data.sources import open_data
from tests.data.decoding.crafting import encoded, tiff
from tests.data.decoding.zoo_kinds import PICTURE

PLANES = np.random.default_rng(0).integers(0, 60000, (3, 12, 16)).astype(np.uint16)


def test_each_page_is_an_image_with_a_name_and_the_label_of_its_file(tmp_path: Path) -> None:
    for number, kind in enumerate(("a", "b")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "focus.tif").write_bytes(tiff(PLANES + number, photometric="minisblack", metadata=None))
        (tmp_path / kind / "plain.png").write_bytes(encoded(PICTURE, "PNG"))
    source = as_images(open_data(str(tmp_path)), Reading(pages="images")).train
    names = [source.name(index) for index in range(len(source))]
    assert names[:4] == ["a/focus.tif#1", "a/focus.tif#2", "a/focus.tif#3", "a/plain.png"]
    assert source.targets("class").values.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    third = open_image(source.read(6))
    assert np.array_equal(third.decode(third.stored)[:, :, 0], PLANES[2] + 1)
    assert source.read(3) == encoded(PICTURE, "PNG")


def test_the_data_set_stays_as_it_is_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "plain.png").write_bytes(encoded(PICTURE, "PNG"))
    data = open_data(str(tmp_path))
    assert as_images(data, Reading(pages="channels")) is data
