"""One zygote and one set of images for all tests of this folder."""

from pathlib import Path

import pytest

from tests.faults.job import write_images
from tests.faults.syscalls import unavailable


@pytest.fixture(scope="package")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("faults") / "images")


@pytest.fixture(scope="session")
def strace() -> None:
    reason = unavailable()
    if reason is not None:
        pytest.skip(f"crashing at a system call needs strace: {reason}")
