"""Reading files of tensors, whatever their container: safetensors, torch, or several files with an index."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from openmae.checkpoints.digest import DIGEST_KEY, digest_of
from openmae.errors import UserError
from openmae.weights.finding import ONNX_SUFFIX
from openmae.weights.stored import Stored
from openmae.weights.torch_files import attributes, read_torch_file, require_plain_tensors

TORCH_SUFFIXES = (".pth", ".pt", ".bin")
INDEX_SUFFIX = ".index.json"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
MOST_CONFIG_BYTES = 2**24  # ImageNet-21k has a megabyte of class names

AVERAGES = ("state_dict_ema", "model_ema")
PLACES = (*AVERAGES, "model", "state_dict", "module", "teacher")
"""The keys of a torch file below which the tensors of a model lie; the first that is there counts."""
WRAPPERS = ("module.", "_orig_mod.", "model.")
"""Prefixes of every key that a wrapper of the model left: data parallel, compiled, Lightning."""


def read_stored(file: Path) -> Stored:
    """The tensors of a file and of the configuration beside it.

    Raises:
        UserError: when it cannot be read.
    """
    if file.name.endswith(INDEX_SUFFIX):
        stored = _read_sharded(file)
    elif file.suffix == ".safetensors":
        stored = _read_safetensors(file)
    elif file.suffix in TORCH_SUFFIXES:
        stored = _read_torch(file)
    elif file.suffix == ONNX_SUFFIX:
        raise UserError(
            f"{file} is an ONNX file, which only embed and predict run; give the weights that it was made from"
        )
    else:
        raise UserError(
            f"{file} is not a .safetensors file; give one, a file of torch ({', '.join(TORCH_SUFFIXES)}), or the "
            "folder that it is in"
        )
    return replace(
        stored,
        tensors=_unwrapped(stored.tensors),
        config=_read_json(file.parent / CONFIG),
        preprocessor=_read_json(file.parent / PREPROCESSOR),
    )


def _read_safetensors(file: Path) -> Stored:
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} cannot be read as safetensors ({error}); check that it was copied whole") from error
    if DIGEST_KEY in metadata and metadata[DIGEST_KEY] != digest_of(tensors):
        raise UserError(
            f"{file} is damaged: its tensors are not those that were written; copy it again, or give a checkpoint of "
            "the run"
        )
    return Stored(tensors=tensors, file=file, metadata=metadata)


def _read_torch(file: Path) -> Stored:
    loaded = attributes(read_torch_file(file))
    if not loaded:
        raise UserError(
            f"{file} contains no tensors under names; give a file with the state dictionary of a model, or the run "
            "folder of a pre-training"
        )
    for place in PLACES:
        inside = attributes(loaded.get(place))
        if inside and any(isinstance(value, Tensor) for value in inside.values()):
            rest = {name: value for name, value in loaded.items() if name != place}
            passed_over = [name for name in (*PLACES, "student") if attributes(rest.get(name))]
            assumed = (f"its {place} is used, not its {', '.join(passed_over)}",) if passed_over else ()
            tensors = require_plain_tensors(inside, file)
            return Stored(tensors=tensors, file=file, container=place, beside=rest, assumed=assumed)
    if not any(isinstance(value, Tensor) for value in loaded.values()):
        raise UserError(
            f"{file} contains no tensors, only {', '.join(sorted(loaded)[:5])}; give a file with the state dictionary "
            "of a model, or the run folder of a pre-training"
        )
    return Stored(tensors=require_plain_tensors(loaded, file), file=file)


def _read_sharded(index: Path) -> Stored:
    """The tensors of several files, as Hugging Face splits large models: `weight_map` names the file of each."""
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{index} has no weight_map, so it does not say where the tensors are; copy the folder anew")
    names = {str(name) for name in weight_map.values()}
    for name in sorted(names):
        if Path(name).name != name or not (index.parent / name).is_file():
            raise UserError(f"{index} names {name[:80]!r}, which is not beside it; copy the whole folder")
    tensors: dict[str, Tensor] = {}
    for name in sorted(names):
        shard = index.parent / name
        read = _read_safetensors(shard) if shard.suffix == ".safetensors" else _read_torch(shard)
        tensors.update(read.tensors)
    if tensors.keys() != weight_map.keys():
        differing = sorted(tensors.keys() ^ weight_map.keys())
        raise UserError(f"{index} and its files disagree about {', '.join(differing[:3])}; copy the whole folder anew")
    return Stored(tensors=tensors, file=index)


def _unwrapped(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for wrapper in WRAPPERS:
        if tensors and all(name.startswith(wrapper) for name in tensors):
            return _unwrapped({name.removeprefix(wrapper): tensor for name, tensor in tensors.items()})
    return tensors


def _read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when there is no such file."""
    if not file.is_file():
        return {}
    try:
        if file.stat().st_size > MOST_CONFIG_BYTES:
            raise ValueError(f"more than {MOST_CONFIG_BYTES:,} bytes")
        loaded = json.loads(file.read_text())
        if not isinstance(loaded, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read as JSON ({error}); remove it or copy it anew") from error
    return loaded
