"""Key tables: our name of each module beside theirs, read in both directions."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from openmae.errors import UserError

LEAF = re.compile(r"\.(weight|bias|running_mean|running_var|num_batches_tracked|gamma)$")
NUMBER = re.compile(r"\.(\d+)(?=\.)")
PLACE = ".{i}"

BLOCK = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
"""timm's names of the modules of one block."""
ENCODER = ("cls_token", "pos_embed", "patch_embed.proj", *(f"blocks.{{i}}.{name}" for name in BLOCK), "norm")
"""The same of a plain Vision Transformer."""

# Query, key and value: one tensor in our layout, three in another.
FUSED = "attn.qkv"
SPLIT = ("attn.q", "attn.k", "attn.v")


@dataclass(frozen=True)
class KeyTable:
    """Rows of our name and theirs, of a module (`norm`) or of a parameter (`cls_token`).

    `{i}` stands for the number of a block. The last part of a key, such as `weight`, is the same on both sides.

    >>> table = KeyTable({"blocks.{i}.norm1": "layers.{i}.ln1"})
    >>> table.theirs("blocks.3.norm1.bias"), table.ours("layers.3.ln1.bias"), table.ours("layers.3.ln9.bias")
    ('layers.3.ln1.bias', 'blocks.3.norm1.bias', None)
    """

    rows: Mapping[str, str]

    def theirs(self, ours: str) -> str | None:
        """Their name of a tensor; None where the layout has no place for it."""
        return _look_up(self.rows, ours)

    def ours(self, theirs: str) -> str | None:
        """Our name of a tensor; None for a name that the layout does not have."""
        return _look_up(self._reversed, theirs)

    @cached_property
    def _reversed(self) -> Mapping[str, str]:
        return {theirs: ours for ours, theirs in self.rows.items()}


def _look_up(rows: Mapping[str, str], name: str) -> str | None:
    leaf = LEAF.search(name)
    module, end = (name[: leaf.start()], leaf[0]) if leaf else (name, "")
    if module in rows:
        return rows[module] + end
    number = NUMBER.search(module)
    if number is None:
        return None
    found = rows.get(module[: number.start()] + PLACE + module[number.end() :])
    return None if found is None else found.replace(PLACE, f".{number[1]}") + end


class Renamed(NamedTuple):
    """Tensors under their new names, and the old names that have none."""

    tensors: dict[str, Tensor]
    unknown: list[str]


def rename(tensors: Mapping[str, Tensor], look_up: Callable[[str], str | None], file: Path) -> Renamed:
    """The tensors under the names that `look_up` gives.

    Raises:
        UserError: when two names become one.
    """
    found: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        new = look_up(name)
        if new is None:
            unknown.append(name)
        elif new in found:
            raise UserError(f"{file} has {new} twice, once as {name}; it mixes two models: separate them")
        else:
            found[new] = tensor
    return Renamed(found, sorted(unknown))


def renamed_back(tensors: Mapping[str, Tensor], table: KeyTable, *, layout: str, remedy: str) -> dict[str, Tensor]:
    """Our tensors under their names.

    Raises:
        UserError: when the layout has no place for a tensor.
    """
    renamed = rename(tensors, table.theirs, Path("the weights"))
    if renamed.unknown:
        raise UserError(f"{layout} has no place for {first_of(renamed.unknown)}; {remedy}")
    return renamed.tensors


def first_of(names: Iterable[str], count: int = 3) -> str:
    """The first of some names, and how many more there are.

    >>> first_of("abcde")
    'a, b, c and 2 more'
    """
    listed = sorted(name if len(name) <= 80 else f"{name[:77]}..." for name in names)
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    return ", ".join(listed[:count]) + more


def fuse_qkv(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Query, key and value of each block as one tensor: concatenated along the first axis.

    Raises:
        UserError: when one of the three is missing, or they differ in shape.
    """
    fused = {}
    for name, tensor in tensors.items():
        part = next((part for part in SPLIT if f".{part}." in name), None)
        if part is None:
            fused[name] = tensor
        elif part == SPLIT[0]:
            thirds = [tensors.get(name.replace(f".{SPLIT[0]}.", f".{other}.")) for other in SPLIT]
            present = [third for third in thirds if third is not None]
            if len({third.shape for third in present}) != 1 or len(present) != 3:
                raise UserError(f"{file} lacks query, key or value of {name}; check that it was copied whole")
            fused[name.replace(f".{part}.", f".{FUSED}.")] = torch.cat(present)
        elif name.replace(f".{part}.", f".{SPLIT[0]}.") not in tensors:
            raise UserError(f"{file} lacks query, key or value of {name}; check that it was copied whole")
    return fused


def split_qkv(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `fuse_qkv`."""
    split = {}
    for name, tensor in tensors.items():
        if f".{FUSED}." in name:
            for part, third in zip(SPLIT, tensor.chunk(3), strict=True):
                split[name.replace(f".{FUSED}.", f".{part}.")] = third
        else:
            split[name] = tensor
    return split
