"""The digest of tensors, which shows whether they are those that were written."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

DIGEST_KEY = "openmae.sha256"
"""The key of the digest in the metadata of a file of weights."""
THREADS = 4


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of the names, types, shapes and bytes of tensors, whatever their order."""
    names = sorted(tensors)
    with ThreadPoolExecutor(THREADS) as threads:  # hashing lets other threads run
        hashes = dict(zip(names, threads.map(lambda name: _sha256(tensors[name]), names), strict=True))
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def with_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a file of these tensors, with their digest."""
    return {**metadata, DIGEST_KEY: digest_of(tensors)}


def _sha256(tensor: Tensor) -> list[str]:
    contents = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return [str(tensor.dtype), str(list(tensor.shape)), hashlib.sha256(contents.data).hexdigest()]
