"""Negative controls: protections switched off inside a trial. The tests that guard them must fail then."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

NO_SYNC = "tests.faults.controls:no_sync"
STATEFUL_RANDOMNESS = "tests.faults.controls:stateful_randomness"


def no_sync() -> None:
    """Nothing is ever synced to the disk."""
    import os

    for name in ("fsync", "fdatasync"):
        setattr(os, name, lambda _descriptor: None)


def stateful_randomness() -> None:
    """Random numbers come of one generator that goes on, as in most trainers, rather than of (seed, epoch, image)."""
    import numpy as np

    from openmae.data import batches, sampling
    from openmae.training import trainer

    generator = np.random.default_rng(0)

    def stream(*_arguments: Any, **_counters: Any) -> np.random.Generator:
        return generator

    for module in (batches, sampling, trainer):
        module.random_stream = stream  # type: ignore[attr-defined]


@contextlib.contextmanager
def unverified() -> Iterator[None]:
    """Manifests are not looked at."""
    from openmae.checkpoints import reading

    with mock.patch.object(reading, "verify", return_value=None):
        yield
