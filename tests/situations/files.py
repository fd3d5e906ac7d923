"""Situations: pixels of all kinds."""

import json
from pathlib import Path

import numpy as np
import tifffile
import yaml
from PIL import Image

from openmae.weights.reading import read_weights
from tests.situations.making import stripes, write_classes, write_picture, write_plain
from tests.situations.shell import DECODER, TINY, Shell
from tests.situations.situation import Situation

IMAGES = ("--image-size", 32, "--patch-size", 8)
SMALL = ("--epochs", 1, *TINY, *DECODER, *IMAGES)
AXES = {"axes": "CYX", "Channel": {"Name": ["nuclei", "reticulum", "nucleoli", "actin", "mitochondria"]}}


def framed(shell: Shell) -> None:
    data = shell.folder / "data"
    for split, count, offset in (("train", 30, 0), ("val", 10, 9000)):
        for kind, colour in enumerate(((200, 40, 40), (40, 40, 200))):
            for number in range(count):
                rng = np.random.default_rng(offset + 1000 * kind + number)
                pixels = rng.integers(90, 120, (128, 128, 3)).astype(np.uint8)
                pixels[:30] = pixels[-30:] = colour
                pixels[:, :30] = pixels[:, -30:] = colour
                write_picture(data / split / f"k{kind}" / f"{number:03d}.png", pixels)
    size = ("--image-size", 64, *TINY)
    base = shell.pretrained("vit-b16-800e", data, "--image-size", 64, "--epochs", 1)
    tuned = shell.folder / "tuned"
    words = ("--weights", base, "--data", data, "--out", tuned, *size, "--epochs", 6, "--base-lr", 0.02)
    plain = ("--mixup", 0, "--cutmix", 0, "--rand-augment", "None", "--erasing", 0, "--layer-decay", 1)
    answer = shell.done("finetune", "vit-b16-800e-finetune", *words, *plain, "--warmup-epochs", 1)
    assert answer.result["top1"] == 100.0
    assert read_weights(tuned).network.eval_resize == 73
    assert shell.done("knn", "--weights", tuned, "--data", data, "-k", 5).result["top1"] == 100.0


def deep_grey(shell: Shell) -> None:
    data = shell.folder / "data"
    for kind in range(2):
        for number in range(10):
            grey = stripes(100 * kind + number, kind)[:, :, 0].astype(np.uint16) * 16
            write_picture(data / f"c{kind}" / f"{number:03d}.png", grey)
    answer = shell.done("knn", "--weights", shell.base, "--data", data, "-k", 3)
    assert answer.result["top1"] == 100.0
    assert "16" in answer.said
    shell.done("embed", "--weights", shell.base, "--data", data, "--out", shell.folder / "features.parquet")
    picture = data / "c0" / "000.png"
    shell.done("reconstruct", "--weights", shell.base, "--out", shell.folder / "picture.png", picture)


def cells(root: Path, *, ome: bool) -> Path:
    """Pictures of five pages: channels, as their OME metadata say; or planes of a focus stack."""
    root.mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(100, 400, (5, 48, 48)).astype(np.uint16)
        pixels[3] += 9000
        if ome:
            tifffile.imwrite(root / f"c{number:02d}.ome.tif", pixels, photometric="minisblack", metadata=AXES)
        else:
            tifffile.imwrite(root / f"z{number:02d}.tif", pixels, imagej=True, metadata={"axes": "ZYX"})
    return root


def channels_as_pages(shell: Shell) -> None:
    data = cells(shell.folder / "cells", ome=True)
    result = shell.done("check", data, "--out", shell.folder / "check").result
    assert result["pixels"] == {"channels": 5, "kind": "uint16"}
    assert "--channels 5" in result["command"]
    assert max(result["statistics"]["mean"]) > 9000 / 65535
    run = shell.pretrained("vit-b16-800e", data, "--channels", 5, "--epochs", 1, *IMAGES)
    assert len(yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))["mean"]) == 5
    shell.done("pack", data, shell.folder / "packed")
    packed = shell.done("check", shell.folder / "packed", "--out", shell.folder / "check-packed").result
    assert packed["pixels"] == {"channels": 5, "kind": "uint16"}


def focus_stacks(shell: Shell) -> None:
    data = cells(shell.folder / "stacks", ome=False)
    refusal = shell.refused("pretrain", "vit-b16-800e", "--data", data, "--out", shell.folder / "run", *SMALL)
    for choice in ("--pages", "channels", "images", "first"):
        assert choice in refusal
    for pages, images, channels in (("channels", 12, 5), ("images", 60, 1), ("first", 12, 1)):
        result = shell.done("check", data, "--pages", pages, "--out", shell.folder / pages).result
        assert (result["images"], result["pixels"]["channels"]) == (images, channels)


def missing_values(shell: Shell) -> None:
    for name, value in (("nodata", -9999.0), ("nan", np.nan)):
        data = shell.folder / name
        data.mkdir()
        for number in range(24):
            bands = np.random.default_rng(number).normal(0.2, 0.05, (48, 48, 6)).astype(np.float32)
            if number % 2:
                bands[:, :6] = value
            tifffile.imwrite(data / f"{number:02d}.tif", bands, photometric="minisblack", planarconfig="contig")
        words = ("--channels", 6, "--epochs", 1, *IMAGES, *(("--nodata", "-9999") if name == "nodata" else ()))
        run = shell.pretrained("vit-b16-800e", data, *words, name=f"run-{name}")
        recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
        assert np.allclose(recipe["mean"], 0.2, atol=0.01)
        assert np.allclose(recipe["std"], 0.05, atol=0.01)
        losses = [json.loads(line).get("loss", 1.0) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert np.isfinite(losses).all()
    warned = shell.done("check", shell.folder / "nodata", "--out", shell.folder / "check")
    assert "--nodata -9999" in json.dumps(warned.result)


def channels_first(shell: Shell) -> None:
    data = shell.folder / "arrays"
    data.mkdir()
    for number in range(12):
        np.save(data / f"{number}.npy", stripes(number, 0).transpose(2, 0, 1))
    result = shell.done("check", data, "--out", shell.folder / "check").result
    assert result["pixels"]["channels"] == 3
    assert "--channels" not in result["command"]
    shell.pretrained("vit-b16-800e", data, "--epochs", 1, *IMAGES)


def huge_photograph(shell: Shell) -> None:
    data = shell.folder / "huge"
    data.mkdir()
    Image.fromarray(stripes(0, 1)).resize((12000, 9000), Image.Resampling.NEAREST).save(data / "photo.jpg", quality=60)
    shell.pretrained("vit-b16-800e", data, "--epochs", 1, *IMAGES)
    refusal = shell.refused(
        "pretrain", "vit-b16-800e", "--data", data, "--out", shell.folder / "bound", *SMALL, "--max-pixels", 1_000_000
    )
    assert "--max-pixels" in refusal


def measured_on_training_images(shell: Shell) -> None:
    data = shell.folder / "data"
    write_plain(data, train=6, val=3)
    for kind in range(3):
        copied = (data / "train" / f"c{kind}" / "000.png").read_bytes()
        (data / "val" / f"c{kind}" / "again.png").write_bytes(copied)
    answer = shell.done("check", data, "--out", shell.folder / "check")
    assert ["train/c0/000.png", "val/c0/again.png"] in answer.result["duplicates"]["examples"]
    assert answer.result["leaked"] == {"val": 3}


def lying_extension(shell: Shell) -> None:
    data = shell.folder / "data"
    write_classes(data, kinds=range(2), each=4)
    (data / "c0" / "note.png").write_text("<html>404</html>", encoding="utf-8")
    answer = shell.done("knn", "--weights", shell.base, "--data", data, "-k", 3)
    assert answer.result["train_images"] == 8
    assert answer.result["unreadable"]["train"] == 1
    assert "note.png" in answer.said


SITUATIONS = (
    Situation(
        "an image size other than 224, and a subject at the border",
        "`eval_resize` follows the image size, in fine-tuning and whatever uses its weights",
        framed,
    ),
    Situation("16-bit grey images, weights that were trained on 8-bit colour", "converted, and said", deep_grey),
    Situation("OME-TIFF whose pages are five channels", "five channels, in every verb", channels_as_pages),
    Situation(
        "TIFF of several pages that do not say what they are", "refused: `--pages channels|images|first`", focus_stacks
    ),
    Situation(
        "-9999 (`--nodata -9999`) or NaN along an edge",
        "left out of statistics and loss; `check` warns of a value that is far from all others",
        missing_values,
    ),
    Situation("`.npy` of shape [3, 48, 48]", "three channels", channels_first),
    Situation(
        "a photograph of 108 megapixels",
        "read as large as the crop needs; `--max-pixels` moves the bound",
        huge_photograph,
    ),
    Situation(
        "copies of training images in the test split", "`check` names both and warns", measured_on_training_images
    ),
    Situation("a web page called `note.png`", "left out, counted and named", lying_extension),
)
