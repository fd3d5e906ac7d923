"""Files and folders in the layouts of other projects."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openmae.checkpoints.digest import with_digest
from openmae.checkpoints.tensor_files import save_tensors
from openmae.errors import UserError
from openmae.files import TEMPORARY_PREFIX, replacing, sync_directory, sync_file
from openmae.weights.containers import CONFIG, PREPROCESSOR, TORCH_SUFFIXES
from openmae.weights.formats import fair, huggingface, mm, timm
from openmae.weights.results import TargetName
from openmae.weights.weights import Weights

SAFETENSORS = ".safetensors"
MODEL = "model.safetensors"
CARD = "README.md"
METADATA = {"format": "pt"}  # transformers refuses a file without it


def require_place(target: TargetName, out: Path) -> None:
    """Raise UserError unless `out` is free and named as the target needs it."""
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists already; remove it or give another name")
    if target in ("fair", "mmpretrain") and out.suffix not in TORCH_SUFFIXES:
        raise UserError(f"{out} must be a file of torch for --to {target}; give a name that ends in .pth")
    if target == "huggingface" and out.suffix in (SAFETENSORS, *TORCH_SUFFIXES):
        raise UserError(f"{out} must be a folder for --to huggingface; give a name without {out.suffix}")
    if target == "timm" and out.suffix in TORCH_SUFFIXES:
        raise UserError(f"{out} cannot be written for --to timm; give a name that ends in {SAFETENSORS}, or a folder's")
    if not is_folder(target, out) and (out.parent / CONFIG).is_file():
        raise UserError(
            f"{out.parent} has a {CONFIG}, which would be taken for the description of {out.name}; write it into "
            "another folder"
        )


def is_folder(target: TargetName, out: Path) -> bool:
    """Whether the target is written as a folder, which describes the whole network."""
    return target == "huggingface" or (target == "timm" and out.suffix != SAFETENSORS)


@contextmanager
def writing(weights: Weights, target: TargetName, out: Path, *, card: str = "") -> Iterator[Path]:
    """Write the weights under a temporary name and yield it; it becomes `out` when the block ends without an error.

    A folder also gets the `card`, where there is one.

    Raises:
        UserError: when the layout has no place for a tensor.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if is_folder(target, out):
        with _replacing_folder(out) as folder:
            _fill(folder, weights, target)
            if card:
                (folder / CARD).write_text(card, encoding="utf-8")
            yield folder
        return
    with replacing(out) as file:
        if target == "timm":
            save_with_digest(file, timm.tensors_to(weights))
        else:
            container = (fair if target == "fair" else mm).container_of(weights)
            torch.save({key: _owned(value) for key, value in container.items()}, file)
        yield file


def _fill(folder: Path, weights: Weights, target: TargetName) -> None:
    if target == "huggingface":
        save_with_digest(folder / MODEL, huggingface.tensors_to(weights))
        _write_json(folder / CONFIG, huggingface.config_of(weights))
        _write_json(folder / PREPROCESSOR, huggingface.preprocessor_of(weights))
    else:
        save_with_digest(folder / MODEL, timm.tensors_to(weights))
        _write_json(folder / CONFIG, timm.config_of(weights))


@contextmanager
def _replacing_folder(out: Path) -> Iterator[Path]:
    """As `files.replacing`, for a folder."""
    temporary = out.with_name(f"{TEMPORARY_PREFIX}{out.name}")
    shutil.rmtree(temporary, ignore_errors=True)  # what a crash left
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            sync_file(file)
        sync_directory(temporary)
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(out.parent)


def save_with_digest(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file whose reader can see whether it was damaged."""
    save_tensors(file, tensors, with_digest(tensors, METADATA))


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _owned(value: Any) -> Any:
    """Tensors with memory of their own: torch.save writes the whole memory that a view looks into."""
    if isinstance(value, Tensor):
        own = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        return value.detach() if own else value.detach().clone()
    return {name: _owned(item) for name, item in value.items()} if isinstance(value, dict) else value
