"""Files from strangers: each is opened as a user would, must be refused in a sentence, and must run nothing."""

import contextlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

CANARY = "canary"
LONGEST = 60.0
"""Seconds after which a command counts as hung."""
Make = Callable[[Path], list[str]]
REFUSED = r"^openmae: [^\n]+; [^\n]+$"


@dataclass(frozen=True)
class Hostile:
    """Something that a stranger made.

    Args:
        name: what it is, for the table.
        make: write it into a folder; returns the words behind `openmae` that open it.
        message: a pattern of what the user is told.
        accepted: whether the command succeeds all the same, as `check` does, which lists what is bad.
    """

    name: str
    make: Make
    message: str = REFUSED
    accepted: bool = False


class Evil:
    """Unpickling it leaves a canary."""

    def __init__(self, folder: Path) -> None:
        self.command = f"touch '{folder / CANARY}'"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def yaml_evil(folder: Path) -> str:
    return f"!!python/object/apply:os.system [\"touch '{folder / CANARY}'\"]"


def _weights(file: Path | str, verb: str = "knn") -> list[str]:
    words = {
        "knn": ["knn", "--data", "fashion-mnist"],
        "reconstruct": ["reconstruct", "--out", "picture.png", "--data", "fashion-mnist"],
        "finetune": ["finetune", "fashion-mnist", "--data", "fashion-mnist"],
        "pretrain": ["pretrain", "fashion-mnist", "--data", "fashion-mnist"],
    }
    return [*words[verb], "--weights", str(file)]


def _file(name: str, content: Callable[[Path], bytes], verb: str = "knn") -> Make:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(content(folder))
        return _weights(folder / name, verb)

    return make


def _pickle(folder: Path) -> bytes:
    return pickle.dumps({"model": Evil(folder)})


def _torch_zip(folder: Path) -> bytes:
    import torch

    saved = io.BytesIO()
    torch.save({"model": Evil(folder)}, saved)
    return saved.getvalue()


def _nested_zip(folder: Path) -> bytes:
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as opened:
        opened.writestr("archive/data.pkl", _torch_zip(folder))
    return outer.getvalue()


def _torch_legacy(folder: Path) -> bytes:
    import torch

    saved = io.BytesIO()
    torch.save({"model": Evil(folder)}, saved, _use_new_zipfile_serialization=False)
    return saved.getvalue()


def _torch_tar(folder: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as opened:
        for name in ("pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = len(_pickle(folder))
            opened.addfile(member, io.BytesIO(_pickle(folder)))
    return packed.getvalue()


def _header(text: str, size: int | None = None, rest: bytes = b"") -> Callable[[Path], bytes]:
    data = text.encode()
    return lambda _: struct.pack("<Q", len(data) if size is None else size) + data + rest


def _tensor(shape: list[int], start: int, end: int, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


def _described(recipe: Callable[[Path], str], verb: str = "knn") -> Make:
    """Good safetensors that say of themselves what a stranger wrote."""

    def make(folder: Path) -> list[str]:
        import torch
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, folder / "a.safetensors", metadata={"openmae.recipe": recipe(folder)})
        return _weights(folder / "a.safetensors", verb)

    return make


def _recipe(**fields: Any) -> Callable[[Path], str]:
    def text(_: Path) -> str:
        from openmae.recipes import find_recipe
        from openmae.recipes.saved import to_yaml

        found = to_yaml(find_recipe("fashion-mnist", "pretrain"))
        for name, value in fields.items():
            found = re.sub(rf"^{name}: .*$", f"{name}: {value}", found, flags=re.MULTILINE)
        return found

    return text


def _bomb(_: Path) -> str:
    names = "abcdefghij"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in pairwise(names)]
    return "\n".join(lines)


def _recipe_file(content: Callable[[Path], bytes]) -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "recipe.yaml").write_bytes(content(folder))
        return ["pretrain", "--recipe-file", str(folder / "recipe.yaml")]

    return make


def _checkpoint(fill: Callable[[Path, Path], None]) -> Make:
    """A run folder with one checkpoint, in which `fill` (folder, checkpoint) has been."""

    def make(folder: Path) -> list[str]:
        checkpoint = folder / "run" / "checkpoints" / "step-00000001"
        checkpoint.mkdir(parents=True)
        fill(folder, checkpoint)
        return _weights(folder / "run")

    return make


def _manifest(content: Callable[[Path], bytes]) -> Make:
    return _checkpoint(lambda folder, checkpoint: _write(checkpoint / "manifest.json", content(folder)))


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def _odd_file(put: Callable[[Path], None]) -> Make:
    """A checkpoint whose model is no regular file."""

    def fill(_: Path, checkpoint: Path) -> None:
        names = ("model.safetensors", "optimizer.safetensors", "state.json")
        (checkpoint / "manifest.json").write_text(json.dumps({"sha256": dict.fromkeys(names, "0" * 64)}))
        for name in names[1:]:
            (checkpoint / name).write_bytes(b"{}")
        put(checkpoint / names[0])

    return _checkpoint(fill)


def _image() -> bytes:
    from PIL import Image

    saved = io.BytesIO()
    Image.new("L", (28, 28), 100).save(saved, "PNG")
    return saved.getvalue()


def _folder(fill: Callable[[Path, Path], None]) -> Make:
    """A folder of images, one of them good, that is looked at by `check`."""

    def make(folder: Path) -> list[str]:
        images = folder / "images"
        images.mkdir()
        (images / "good.png").write_bytes(_image())
        fill(folder, images)
        return ["check", str(images), "--out", str(folder / "check"), "--workers", "0"]

    return make


def _shard(*members: tuple[tarfile.TarInfo, bytes]) -> Make:
    """A tar shard with one good image and these members."""

    def make(folder: Path) -> list[str]:
        good = tarfile.TarInfo("good.png")
        good.size = len(_image())
        (folder / "data").mkdir()
        with tarfile.open(folder / "data" / "shard-0.tar", "w") as opened:
            opened.addfile(good, io.BytesIO(_image()))
            for member, content in members:
                member.size = member.size or len(content)
                opened.addfile(member, io.BytesIO(content))
        return ["check", str(folder / "data"), "--out", str(folder / "check"), "--workers", "0"]

    return make


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def _secret(folder: Path, images: Path) -> None:
    (folder / "secret.txt").write_text("the password is hunter2")
    (images / "innocent.png").symlink_to(folder / "secret.txt")


def _loop(_: Path, images: Path) -> None:
    (images / "again").symlink_to(images, target_is_directory=True)


def _named(name: str) -> Callable[[Path, Path], None]:
    return lambda _, images: _write(images / name, b"no image")


def _label_file(content: bytes) -> Make:
    def make(folder: Path) -> list[str]:
        (folder / "labels.csv").write_bytes(content)
        return [*_folder(lambda *_: None)(folder), "--labels", str(folder / "labels.csv")]

    return make


NO_CODE = r"cannot be read without executing code \(.+\), which OpenMAE never does; save its tensors as"
NO_SAFETENSORS = r"cannot be read as safetensors \(.*\); check that it was copied whole"
NO_RECIPE = r"not a (readable )?recipe.*; `openmae recipes NAME` prints one"
PASSED_OVER = r"holds no weights \(.* is damaged \(.*\) and is passed over\); give a folder"
ONE_BAD = r"1 (image )?.*could not be decoded|bad.*1|1 bad"
DEEP = "[" * 100_000

ZOO: tuple[Hostile, ...] = (
    Hostile("a pickle named .pth", _file("a.pth", _pickle), NO_CODE),
    Hostile("a pickle named .bin", _file("pytorch_model.bin", _pickle, "finetune"), NO_CODE),
    Hostile("a pickle named .safetensors", _file("a.safetensors", _pickle), NO_SAFETENSORS),
    Hostile("the same, to reconstruct with", _file("a.safetensors", _pickle, "reconstruct"), NO_SAFETENSORS),
    Hostile("the same, to fine-tune", _file("a.safetensors", _pickle, "finetune"), NO_SAFETENSORS),
    Hostile("the same, to start pre-training from", _file("a.safetensors", _pickle, "pretrain"), NO_SAFETENSORS),
    Hostile("torch's zip of a pickle", _file("a.safetensors", _torch_zip), NO_SAFETENSORS),
    Hostile("a zip in a zip", _file("a.safetensors", _nested_zip), NO_SAFETENSORS),
    Hostile("torch's legacy file", _file("a.safetensors", _torch_legacy), NO_SAFETENSORS),
    Hostile("torch's legacy tar", _file("a.safetensors", _torch_tar), NO_SAFETENSORS),
    Hostile("a safetensors header of 2^60 bytes", _file("a.safetensors", _header("{}", 2**60)), NO_SAFETENSORS),
    Hostile("a header longer than the file", _file("a.safetensors", _header("{}", 10**6)), NO_SAFETENSORS),
    Hostile("a header of brackets", _file("a.safetensors", _header(DEEP)), NO_SAFETENSORS),
    Hostile(
        "a tensor of 2^42 bytes in a small file",
        _file("a.safetensors", _header(json.dumps({"a": _tensor([2**40], 0, 2**42)}))),
        NO_SAFETENSORS,
    ),
    Hostile(
        "tensors that overlap",
        _file(
            "a.safetensors", _header(json.dumps({"a": _tensor([2], 0, 8), "b": _tensor([2], 4, 12)}), None, bytes(12))
        ),
        NO_SAFETENSORS,
    ),
    Hostile(
        "a tensor of negative size",
        _file("a.safetensors", _header(json.dumps({"a": _tensor([-2], 0, 8)}), None, bytes(8))),
        NO_SAFETENSORS,
    ),
    Hostile(
        "a tensor of an unknown type",
        _file("a.safetensors", _header(json.dumps({"a": _tensor([2], 0, 8, "CODE")}), None, bytes(8))),
        NO_SAFETENSORS,
    ),
    Hostile("weights whose recipe calls Python", _described(yaml_evil), NO_RECIPE),
    Hostile("weights whose recipe is a bomb of anchors", _described(_bomb), NO_RECIPE),
    Hostile("weights whose recipe is 100,000 brackets", _described(lambda _: DEEP), NO_RECIPE),
    Hostile("weights of a network 2^31 wide", _described(_recipe(width=2**31)), "--width must be at most 65536"),
    Hostile("weights of a network a million deep", _described(_recipe(depth=10**6)), "--depth must be at most 1000"),
    Hostile("weights for images of 10^12 pixels", _described(_recipe(image_size="1000000x1000000")), "another network"),
    Hostile(
        "weights of a decoder that fills the memory",
        _described(_recipe(decoder_width=65536, decoder_depth=1000), "reconstruct"),
        "holds an encoder without its decoder|another network",
    ),
    Hostile("a recipe file that calls Python", _recipe_file(lambda folder: yaml_evil(folder).encode()), NO_RECIPE),
    Hostile("a recipe file that is a bomb of anchors", _recipe_file(lambda folder: _bomb(folder).encode()), NO_RECIPE),
    Hostile("a recipe file of 100,000 brackets", _recipe_file(lambda _: DEEP.encode()), NO_RECIPE),
    Hostile("a recipe file that is a pickle", _recipe_file(_pickle), "codec can't decode|" + NO_RECIPE),
    Hostile("a manifest that is a pickle", _manifest(_pickle), PASSED_OVER),
    Hostile("a manifest of 100,000 brackets", _manifest(lambda _: DEEP.encode()), PASSED_OVER),
    Hostile(
        "a manifest that lists files elsewhere",
        _manifest(lambda _: json.dumps({"sha256": {"../../../secret": "", "/etc/passwd": ""}}).encode()),
        PASSED_OVER,
    ),
    Hostile("a checkpoint with a FIFO for a model", _odd_file(lambda file: os.mkfifo(file)), PASSED_OVER),
    Hostile("a checkpoint with an endless device", _odd_file(lambda file: file.symlink_to("/dev/zero")), PASSED_OVER),
    Hostile("a checkpoint with a folder for a model", _odd_file(lambda file: file.mkdir()), PASSED_OVER),
    Hostile("weights with terminal codes in their name", lambda folder: _weights(folder / "\x1b[31mred\x07")),
    Hostile("a link to a text file among the images", _folder(_secret), "innocent.png", accepted=True),
    Hostile("a folder that links to itself", _folder(_loop), "good|1", accepted=True),
    Hostile(
        "a FIFO among the images", _folder(lambda _, images: os.mkfifo(images / "x.png")), "FIFO.*x.png", accepted=True
    ),
    Hostile("a file name with terminal codes", _folder(_named("\x1b[31mred\x07.png")), r"\\x1b\[31mred", accepted=True),
    Hostile("a file name with a line break", _folder(_named("one\ntwo.png")), r"one\\ntwo", accepted=True),
    Hostile("a file name that is HTML", _folder(_named("<script>alert(1)<.png")), "<script>", accepted=True),
    Hostile("a file name that is markup", _folder(_named("[red]x.png")), r"\[red\]x", accepted=True),
    Hostile("a shard with a path out of it", _shard((_member("../../../canary.png"), b"no image")), "", accepted=True),
    Hostile("a shard with an absolute path", _shard((_member("/tmp/canary.png"), b"no image")), "", accepted=True),
    Hostile(
        "a shard with a link to a secret",
        _shard((_member("x.png", tarfile.SYMTYPE, "/etc/passwd"), b"")),
        "",
        accepted=True,
    ),
    Hostile(
        "a shard with a hard link to a secret",
        _shard((_member("x.png", tarfile.LNKTYPE, "/etc/passwd"), b"")),
        "",
        accepted=True,
    ),
    Hostile("a shard with a device", _shard((_member("x.png", tarfile.CHRTYPE), b"")), "", accepted=True),
    Hostile(
        "a label file with a field of 20 MB", _label_file(b"path,label\ngood.png," + b"x" * 20_000_000), "labels.csv"
    ),
    Hostile("a label file of zeros", _label_file(bytes(1000)), "labels.csv"),
    Hostile("a hub name that climbs", lambda _: ["check", "hf://../../etc/passwd"]),
)


@dataclass(frozen=True, kw_only=True)
class MaliciousResult:
    """How many of the zoo's files were refused or listed as bad; what ran, leaked or hung is a failure in words."""

    cases: int
    refused: int
    canaries: int
    failures: tuple[str, ...]


def try_one(hostile: Hostile, folder: Path) -> tuple[str, bool]:
    """What is wrong with the way that this file was met, empty when nothing is; and whether a canary ran."""
    from openmae.cli import main

    folder.mkdir(parents=True)
    words = hostile.make(folder)
    if "--out" not in words and words[0] in ("pretrain", "finetune"):
        words += ["--out", str(folder / "run-of-it")]
    out, err = io.StringIO(), io.StringIO()
    began = time.monotonic()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(folder):
            code = main(words)
    except BaseException as error:  # whatever comes out, argument parsers' exits too, is what this looks for
        return f"raised {type(error).__name__}: {error}", (folder / CANARY).exists()
    seconds, said = time.monotonic() - began, out.getvalue() + err.getvalue()
    problems = []
    if (code == 0) != hostile.accepted:
        problems.append(f"code {code}")
    # Tables break long names; a refusal is one line.
    told = err.getvalue().strip() if hostile.message is REFUSED else said.replace("\n", "")
    if not re.search(hostile.message, told):
        problems.append(f"said {said.strip()[-300:]!r}")
    if re.search("Traceback|please report it|hunter2|root:", said) or any(sign in said for sign in "\x1b\x07"):
        problems.append(f"leaked {said.strip()[-300:]!r}")
    if seconds > LONGEST:
        problems.append(f"took {seconds:.0f} s")
    outside = (Path("/tmp/canary.png"), folder.parent / "canary.png")
    problems += [f"wrote {path}" for path in outside if path.exists()]
    return "; ".join(problems), (folder / CANARY).exists()


def table() -> list[str]:
    """The zoo for docs/security.md."""
    fates = {False: "refused", True: "listed as bad, or passed over; the rest is read"}
    return ["| file | fate |", "|---|---|", *(f"| {hostile.name} | {fates[hostile.accepted]} |" for hostile in ZOO)]


def measure_malicious(folder: Path) -> MaliciousResult:
    """Open every file of the zoo as a user would."""
    failures = []
    canaries = 0
    for number, hostile in enumerate(ZOO):
        problem, ran = try_one(hostile, folder / f"{number:02d}" / "here")
        canaries += ran
        if problem or ran:
            failures.append(f"{hostile.name}: {problem or 'a canary ran'}")
        shutil.rmtree(folder / f"{number:02d}")
    return MaliciousResult(
        cases=len(ZOO), refused=len(ZOO) - len(failures), canaries=canaries, failures=tuple(failures)
    )
