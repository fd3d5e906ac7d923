"""Situations: runs that are continued, and weights that are used elsewhere."""

import os
import shutil

import numpy as np
import timm
import torch
import yaml
from PIL import Image

import openmae
from openmae.data.sources import open_data
from openmae.evaluation.features import extract_features
from openmae.weights.reading import read_weights
from tests.situations.making import stripes, write_csv, write_flat, write_picture
from tests.situations.shell import DECODER, TINY, Shell
from tests.situations.situation import Situation

IMAGES = ("--image-size", 32, "--patch-size", 8)
SMALL = (*TINY, *DECODER, *IMAGES)


def changed_images(shell: Shell) -> None:
    data, out = shell.folder / "photos", shell.folder / "run"
    write_flat(data, 32)
    words = ("pretrain", "vit-b16-800e", "--out", out, *SMALL, "--epochs", 2)
    shell.done(*words, "--data", data)
    (out / "results.json").unlink()  # as if it had been stopped before its end
    write_flat(data / "more", 12, seed=900)
    (data / "000.png").unlink()
    refusal = shell.refused(*words, "--data", data)
    assert "12 new" in refusal
    assert "1 gone" in refusal
    assert "--accept-changed-data" in refusal
    shell.done(*words, "--data", data, "--accept-changed-data")


def changed_labels(shell: Shell) -> None:
    images, out = shell.folder / "images", shell.folder / "tuned"
    rows = write_flat(images, 24)
    labels = write_csv(shell.folder / "labels.csv", rows)
    words = (
        "finetune",
        "cifar10-finetune",
        "--weights",
        shell.base,
        "--data",
        images,
        "--labels",
        labels,
        "--out",
        out,
    )
    tiny = ("--epochs", 1, "--eval-every", 1, *TINY)
    shell.done(*words, *tiny)
    (out / "results.json").unlink()
    write_csv(labels, [(name, (kind + 1) % 3 if number < 5 else kind) for number, (name, kind) in enumerate(rows)])
    assert "5" in shell.refused(*words, *tiny)


def spelled_otherwise(shell: Shell) -> None:
    data, out = shell.folder / "photos", shell.folder / "run"
    write_flat(data, 16)
    words = ("pretrain", "vit-b16-800e", "--out", out, *SMALL, "--epochs", 1)
    shell.done(*words, "--data", data)
    (shell.folder / "link").symlink_to(data)
    for spelling in (f"{data}/", os.path.relpath(data), shell.folder / "link"):
        assert "already finished" in shell.done(*words, "--data", spelling).said
    (out / "results.json").unlink()
    for spelling in (f"{data}/", os.path.relpath(data)):
        shell.done(*words, "--data", spelling)


def long_warmup(shell: Shell) -> None:
    data = shell.folder / "photos"
    write_flat(data, 16)
    out = shell.folder / "run"
    answer = shell.done("pretrain", "vit-b16-800e", "--data", data, "--out", out, *SMALL, "--epochs", 4)
    warmup = yaml.safe_load((out / "recipe.yaml").read_text(encoding="utf-8"))["warmup_epochs"]
    assert warmup == 4 * 40 / 800
    assert "warm-up" in answer.said


def permissions(shell: Shell) -> None:
    data = shell.folder / "photos"
    write_flat(data, 16)
    before = os.umask(0o022)
    try:
        run = shell.pretrained("vit-b16-800e", data, *IMAGES, "--epochs", 1)
    finally:
        os.umask(before)
    files = [path for path in run.rglob("*") if path.is_file()]
    wrong = {path.name: oct(path.stat().st_mode) for path in files if path.stat().st_mode & 0o777 != 0o644}
    assert not wrong


def transform_of_timm(shell: Shell) -> None:
    data = shell.folder / "photos"
    for number in range(6):
        pixels = np.kron(stripes(number, number % 3), np.ones((3, 4 + number % 2, 1), np.uint8))
        write_picture(data / f"{number}.png", pixels)
    run = shell.pretrained("vit-b16-800e", data, "--epochs", 1, "--image-size", 96)
    vit = openmae.load_encoder(run)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(vit))
    loaded = read_weights(run)
    ours = extract_features(vit, loaded.network, open_data(str(data)).train).mean
    pictures = torch.stack([transform(Image.open(data / f"{number}.png")) for number in range(6)])
    with torch.inference_mode():
        theirs = vit.forward_features(pictures)[:, 1:].mean(dim=1)
    assert torch.nn.functional.cosine_similarity(torch.from_numpy(ours), theirs).min() >= 0.999


def damaged_weights(shell: Shell) -> None:
    damaged = shell.folder / "encoder.safetensors"
    shutil.copy(shell.base / "encoder.safetensors", damaged)
    content = bytearray(damaged.read_bytes())
    content[-1000] ^= 1
    damaged.write_bytes(content)
    refusal = shell.refused("knn", "--weights", damaged, "--data", "fashion-mnist")
    assert "damaged" in refusal


def decoder_taken_along(shell: Shell) -> None:
    data = shell.folder / "photos"
    write_flat(data, 16)
    first = shell.pretrained("vit-b16-800e", data, *IMAGES, "--epochs", 1, name="first")
    words = ("pretrain", "vit-b16-800e", "--data", data, "--weights", first, *TINY, *IMAGES, "--epochs", 1)
    taken = shell.done(*words, *DECODER, "--out", shell.folder / "second")
    assert "decoder" in taken.said
    decoder = ("--decoder-width", 32, "--decoder-depth", 2, "--decoder-heads", 2)
    other = shell.done(*words, *decoder, "--out", shell.folder / "third")
    assert "decoder" in other.said
    assert taken.said != other.said


SITUATIONS = (
    Situation(
        "images were added or deleted before a run is continued",
        "refused with their numbers; `--accept-changed-data` goes on",
        changed_images,
    ),
    Situation("labels were changed before a run is continued", "refused with their number", changed_labels),
    Situation("`photos/`, `./photos` or a link instead of `photos`", "the same run goes on", spelled_otherwise),
    Situation("`--epochs 20` with a published recipe", "its warm-up is shortened in proportion, and said", long_warmup),
    Situation("a folder that others may read", "every file that is written obeys the umask", permissions),
    Situation("`load_encoder` and the transform that timm makes for it", "the features of `embed`", transform_of_timm),
    Situation("a bit of a weights file that flips", "refused as damaged", damaged_weights),
    Situation(
        "pre-training from the weights of another run",
        "its decoder is taken along where it fits, and said",
        decoder_taken_along,
    ),
)
