"""Brings together the measurements of all processes: as tensors, so that nothing is unpickled."""

import json

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from openmae.data.batches import BadRecord

# Rows sent at once: what arrives lies on the device once for every process before it moves to the CPU.
PIECE = 1 << 14


def gather_rows(fabric: Fabric, rows: Tensor) -> Tensor:
    """The `rows` [N, ...] of all processes in order of rank, on the CPU of each; N may differ, and be 0."""
    if fabric.world_size == 1:
        return rows
    counts: list[int] = _all_gather(fabric, torch.tensor([len(rows)])).flatten().tolist()
    gathered: list[list[Tensor]] = [[rows[:0]] for _ in counts]
    for start in range(0, max(counts), PIECE):
        mine = rows[start : start + PIECE]
        # Collectives want equal shapes.
        piece = rows.new_zeros(min(PIECE, max(counts) - start), *rows.shape[1:])
        piece[: len(mine)] = mine
        for rank, part in enumerate(_all_gather(fabric, piece)):
            gathered[rank].append(part[: max(0, counts[rank] - start)])
    return torch.cat([part for parts in gathered for part in parts])


def gather_bad(fabric: Fabric, bad: list[BadRecord]) -> list[BadRecord]:
    """The unreadable images that all processes have met, in the order of the source."""
    # One line of JSON each; names that are no valid UTF-8 survive as escapes.
    text = "".join(json.dumps(record) + "\n" for record in bad).encode()
    gathered = gather_rows(fabric, torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else _no_bytes())
    return sorted(BadRecord(*json.loads(line)) for line in gathered.numpy().tobytes().splitlines())


def add_up(fabric: Fabric, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of the `counts` over all processes."""
    total: NDArray[np.int64] = gather_rows(fabric, torch.from_numpy(counts)[None]).sum(dim=0).numpy()
    return total


def _all_gather(fabric: Fabric, tensor: Tensor) -> Tensor:
    mine = tensor.to(fabric.device)
    parts = [torch.empty_like(mine) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(parts, mine)
    return torch.stack(parts).cpu()


def _no_bytes() -> Tensor:
    return torch.empty(0, dtype=torch.uint8)
