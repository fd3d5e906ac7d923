"""Wrong and hostile files: each is refused in one sentence, runs nothing, and takes no memory to speak of."""

import json
import os
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from openmae.errors import UserError
from openmae.weights.building import load_encoder
from openmae.weights.formats import fair, huggingface, mm
from openmae.weights.reading import read_weights
from tests.weights.formats.samples import NETWORK, random_like, shapes_of, weights_of

CANARY = "canary"
MEMORY = 150e6  # bytes; the files below claim far more
EMPTY_SPARSE = torch.sparse_coo_tensor(
    torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), (2**40,), check_invariants=False
)
SENTENCE = re.compile(r"[^\n]{20,600}; [^\n]{10,300}")


class Evil:
    """Unpickling it calls a function with a text."""

    def __init__(self, function: Callable[..., Any], *words: Any) -> None:
        self.call = function, words

    def __reduce__(self) -> Any:
        return self.call


def touch(folder: Path) -> Evil:
    return Evil(os.system, f"touch '{folder / CANARY}'")


def torch_file(content: Callable[[Path], Any], name: str = "file.pth", **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        torch.save(content(folder), folder / name, **options)
        return folder / name

    return make


def bytes_file(content: Callable[[Path], bytes], name: str = "file.pth") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content(folder))
        return folder / name

    return make


def safetensors_file(content: Callable[[], dict[str, Any]], **beside: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        save_file({name: tensor.contiguous() for name, tensor in content().items()}, folder / "model.safetensors")
        for name, text in beside.items():
            (folder / f"{name}.json").write_text(text)
        return folder

    return make


def index_file(weight_map: Any, **shards: dict[str, Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for name, tensors in shards.items():
            save_file(tensors, folder / f"{name}.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps(weight_map))
        return folder

    return make


def climbing_index(folder: Path) -> Path:
    """An index that names a good file outside its folder."""
    save_file(encoder(), folder / "secret.safetensors")
    (folder / "inside").mkdir()
    return index_file({"weight_map": dict.fromkeys(encoder(), "../secret.safetensors")})(folder / "inside")


def encoder(**changes: Any) -> dict[str, Any]:
    """A good encoder, with some tensors replaced, or taken out by None."""
    tensors = {**weights_of("encoder").tensors, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def rewritten(make: Callable[[Path], Path], change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def make_and_change(folder: Path) -> Path:
        file = make(folder)
        file.write_bytes(change(file.read_bytes()))
        return file

    return make_and_change


def claims_more(folder: Path) -> Path:
    """A file of before the zip format whose one storage claims 2^40 numbers."""
    torch.save({"model": {"a": torch.ones(77777)}}, folder / "file.pth", _use_new_zipfile_serialization=False)
    data = (folder / "file.pth").read_bytes()
    number, claimed = pickle.dumps(77777, 2)[2:-1], pickle.dumps(2**40, 2)[2:-1]
    assert number in data
    (folder / "file.pth").write_bytes(data.replace(number, claimed))
    return folder / "file.pth"


def zip_bomb(folder: Path) -> Path:
    """A zip whose pickle unpacks to 256 MiB of nothing."""
    with zipfile.ZipFile(folder / "file.pth", "w", zipfile.ZIP_DEFLATED) as opened:
        with opened.open("file/data.pkl", "w", force_zip64=True) as entry:
            for _ in range(2**8):
                entry.write(bytes(2**20))
        opened.writestr("file/version", "3")
    return folder / "file.pth"


def tar_of_torch(folder: Path) -> Path:
    with tarfile.open(folder / "file.pth", "w") as opened:
        for name in ("storages", "tensors", "pickle"):
            (folder / name).write_bytes(pickle.dumps(touch(folder)))
            opened.add(folder / name, name)
    return folder / "file.pth"


def zip_of(pickled: bytes, *more: str) -> Callable[[Path], Path]:
    """A zip as torch writes it, with a pickle of one's own and other entries."""

    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "file.pth", "w") as opened:
            opened.writestr("file/data.pkl", pickled)
            for name in ("version", *more):
                opened.writestr(f"file/{name}", "3")
        return folder / "file.pth"

    return make


def shared(times: int) -> dict[str, Any]:
    one = torch.ones(1000)
    return {f"blocks.{number}.x": one for number in range(times)}


def long_chain() -> dict[str, Any]:
    return {f"blocks.{number}.attn.qkv.weight": torch.ones(1, 1) for number in range(1001)} | {
        "patch_embed.proj.weight": torch.ones(1, 3, 1, 1),
        "pos_embed": torch.ones(1, 2, 1),
        "cls_token": torch.ones(1, 1, 1),
        "norm.weight": torch.ones(1),
    }


CODE = r"cannot be read without executing code \({}\), which OpenMAE never does; save its tensors as \.safetensors"
HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a bare pickle": (bytes_file(lambda f: pickle.dumps({"model": touch(f)})), CODE.format("a bare pickle")),
    "a bare pickle in .bin": (
        bytes_file(lambda f: pickle.dumps(touch(f), 2), "pytorch_model.bin"),
        CODE.format("a bare pickle"),
    ),
    "a call in a zip": (torch_file(lambda f: {"model": touch(f)}), CODE.format(r"posix\.system")),
    "a call in the old format": (
        torch_file(lambda f: {"model": touch(f)}, _use_new_zipfile_serialization=False),
        CODE.format(r"posix\.system"),
    ),
    "a call beside good weights": (
        torch_file(lambda f: {"model": encoder(), "args": touch(f)}),
        CODE.format(r"posix\.system"),
    ),
    "a call of eval": (
        torch_file(lambda f: {"model": Evil(eval, f"open({str(f / CANARY)!r}, 'w')")}),
        CODE.format("eval"),
    ),
    "a name that was never installed": (
        zip_of(b"\x80\x02cevil.module\nrun\n(K\x01tR."),
        CODE.format(r"evil\.module\.run"),
    ),
    "a whole module": (torch_file(lambda f: nn.Linear(2, 2)), CODE.format(r"torch\.nn\.modules\.linear\.Linear")),
    "a program of TorchScript": (
        zip_of(b"\x80\x02}.", "constants.pkl", "code/__torch__/torch.py"),
        CODE.format("a TorchScript program"),
    ),
    "a tar of torch 0.1": (tar_of_torch, r"is not a file that torch\.save wrote; check"),
    "a zip bomb": (zip_bomb, "is a compressed or overlapping zip, as torch never writes one; save"),
    "a tensor larger than its file": (
        torch_file(lambda f: {"model": {"a": torch.ones(1).expand(2**40)}}),
        r"describes tensors of 4,398,046,511,104 bytes, more than it has",
    ),
    "tensors that share a storage": (
        torch_file(lambda f: {"model": shared(100_00)}),
        r"describes tensors of 40,000,000 bytes, more than it has",
    ),
    "a storage that claims more": (claims_more, r"cannot be read as a file of torch \(.*\); check that it was"),
    "a tensor on no device": (
        torch_file(lambda f: {"model": {"a": torch.empty(2**40, device="meta")}}),
        "has a sparse, quantised or empty tensor called 'a'; save",
    ),
    "a sparse tensor": (
        torch_file(lambda f: {"model": {"a": EMPTY_SPARSE}}),
        "has a sparse, quantised or empty tensor called 'a'; save",
    ),
    "no tensor but a text": (
        torch_file(lambda f: {"model": {**encoder(), "blocks.0.extra": "text"}}),
        r"has a str called 'blocks\.0\.extra' among its tensors; save",
    ),
    "a tensor alone": (torch_file(lambda f: torch.ones(2)), "contains no tensors under names; give a file with"),
    "numbers alone": (torch_file(lambda f: {"lr": 0.1, "epoch": 3}), "contains no tensors, only epoch, lr; give"),
    "deep nesting": (
        bytes_file(lambda f: bytes.fromhex("80028a0a6cfc9c46f9206aa850192e") + b"\x80\x02" + b"]" * 10**5),
        r"cannot be read as a file of torch \(.*\); check that it was copied whole",
    ),
    "a truncated zip": (
        rewritten(torch_file(lambda f: {"model": encoder()}), lambda data: data[:-100]),
        r"is not a file that torch\.save wrote; check that it was copied whole",
    ),
    "a truncated file of the old format": (
        rewritten(torch_file(lambda f: encoder(), _use_new_zipfile_serialization=False), lambda data: data[:-100]),
        r"cannot be read as a file of torch \(.*\); check that it was copied whole",
    ),
    "an empty file": (bytes_file(lambda f: b""), r"is not a file that torch\.save wrote; check that it was copied"),
    "a web page": (bytes_file(lambda f: b"<!DOCTYPE html>" * 99), r"is not a file that torch\.save wrote; check that"),
    "an index without a map": (index_file({"metadata": {}}), "has no weight_map, so it does not say where the tensors"),
    "an index that climbs": (climbing_index, "names '../secret.safetensors', which is not beside it; copy the whole"),
    "an index without its file": (index_file({"weight_map": {"a": "b.safetensors"}}), "which is not beside it; copy"),
    "an index that disagrees": (
        index_file({"weight_map": {"a": "b.safetensors"}}, b={"a": torch.ones(1), "c": torch.ones(1)}),
        "and its files disagree about c; copy the whole folder anew",
    ),
    "a config of 100,000 brackets": (
        safetensors_file(encoder, config="[" * 100_000),
        r"config\.json cannot be read as JSON \(.*\); remove it or copy it anew",
    ),
    "a config that is a list": (safetensors_file(encoder, config="[]"), r"as JSON \(no object\); remove it or copy it"),
    "a config with absurd heads": (
        safetensors_file(encoder, config='{"model_args": {"num_heads": 1e99}}'),
        r"num_heads is '1e\+99' in the configuration",
    ),
    "a config for images of 10^12 pixels": (
        safetensors_file(encoder, config='{"model_args": {"img_size": 1000000}}'),
        "has positions for 16 patches, but its configuration says 1000000x1000000 pixels",
    ),
    "a ResNet": (
        safetensors_file(lambda: {"conv1.weight": torch.ones(1), "layer1.0.conv1.weight": torch.ones(1)}),
        r"no known layout has its keys \(conv1.*which looks like a ResNet; give a run folder",
    ),
    "a Swin": (
        safetensors_file(
            lambda: {"patch_embed.proj.weight": torch.ones(1), "layers.0.downsample.norm.bias": torch.ones(1)}
        ),
        "which looks like a hierarchical network",
    ),
    "a language model": (
        safetensors_file(lambda: {"transformer.h.0.attn.weight": torch.ones(1), "wte": torch.ones(1)}),
        "which looks like a language model; give a run folder",
    ),
    "an autoencoder of ours without its metadata": (
        safetensors_file(lambda: dict(weights_of("autoencoder").tensors)),
        "which looks like an autoencoder of OpenMAE that lost its metadata",
    ),
    "two models in one file": (
        safetensors_file(lambda: mm.tensors_to(weights_of("encoder")) | huggingface.tensors_to(weights_of("encoder"))),
        "has the keys of MMPretrain and of Hugging Face .*it mixes two models: separate them",
    ),
    "one model twice": (
        safetensors_file(
            lambda: (
                huggingface.tensors_to(weights_of("encoder"))
                | {f"layers.{number}.attention.q_proj.weight": torch.ones(1) for number in range(2)}
            )
        ),
        r"has blocks\.0\.attn\.q\.weight twice, once as vit\.layers.*it mixes two models",
    ),
    "a block in the middle missing": (
        safetensors_file(
            lambda: {name.replace("blocks.1.", "blocks.7."): tensor for name, tensor in encoder().items()}
        ),
        r"lacks blocks\.1; check that it was copied whole",
    ),
    "a block with an absurd number": (
        safetensors_file(
            lambda: {name.replace("blocks.1.", "blocks.999999999."): tensor for name, tensor in encoder().items()}
        ),
        r"lacks blocks\.1; check that it was copied whole",
    ),
    "more blocks than any network": (safetensors_file(long_chain), "has 1001 blocks; OpenMAE builds up to 1000"),
    "patches that are no squares": (
        safetensors_file(lambda: encoder(patch_embed__proj__weight=torch.ones(192, 3, 4, 2))),
        "has patches of 4x2 pixels; OpenMAE builds networks with square ones",
    ),
    "a patch embedding for video": (
        safetensors_file(lambda: encoder(patch_embed__proj__weight=torch.ones(192, 3, 2, 4, 4))),
        r"lacks patch_embed\.proj\.weight, or has it in another form; check",
    ),
    "no positions": (safetensors_file(lambda: encoder(pos_embed=None)), "lacks pos_embed, or has it in another form"),
    "positions for no square": (
        safetensors_file(lambda: encoder(pos_embed=torch.ones(1, 13, 192))),
        "has positions for 12 patches, which is no square; write a config",
    ),
    "a block of another width": (
        safetensors_file(lambda: encoder(blocks__1__mlp__fc1__weight=torch.ones(5, 192))),
        r"is of another network: it has in another shape blocks\.1\.mlp\.fc1\.weight; use",
    ),
    "a tensor missing": (
        safetensors_file(lambda: encoder(blocks__1__norm2__bias=None)),
        r"is of another network: it lacks blocks\.1\.norm2\.bias; use",
    ),
    "a decoder that no width and 16 heads allow": (
        torch_file(
            lambda f: {
                "model": {**fair.tensors_to(weights_of("autoencoder")), "decoder_embed.weight": torch.ones(33, 9)}
            }
        ),
        "has a decoder 33 wide, which 16 heads cannot share",
    ),
    "nothing at all": (bytes_file(lambda f: b"\x02\0\0\0\0\0\0\0{}", "file.safetensors"), r"keys \(no tensors\); give"),
}


def peak_memory() -> float:
    """The largest resident size, in bytes, since `forget_peak`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024.0 * int(found[1])


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_wrong_file_is_refused_in_one_sentence_without_running_code_or_taking_memory(
    name: str, tmp_path: Path
) -> None:
    make, message = HOSTILE[name]
    path = make(tmp_path)
    measured = Path("/proc/self/clear_refs").exists()
    if measured:
        forget_peak()
        before = peak_memory()
    with pytest.raises(UserError, match=message) as error:
        load_encoder(path)
    assert SENTENCE.fullmatch(str(error.value)), str(error.value)
    assert not (tmp_path / CANARY).exists()
    assert not measured or peak_memory() - before < MEMORY


def test_the_hostile_files_would_do_harm_where_nobody_is_careful(tmp_path: Path) -> None:
    file = HOSTILE["a call in a zip"][0](tmp_path)
    torch.load(file, weights_only=False)
    assert (tmp_path / CANARY).exists()


def test_a_good_file_with_the_same_helpers_reads(tmp_path: Path) -> None:
    """Or the refusals above would show nothing."""
    assert read_weights(safetensors_file(encoder)(tmp_path)).network.depth == NETWORK.depth
    assert read_weights(torch_file(lambda f: {"model": encoder()})(tmp_path)).network.depth == NETWORK.depth
    assert random_like(shapes_of(NETWORK, "encoder")).keys() == encoder().keys()
