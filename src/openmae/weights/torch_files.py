"""Files that `torch.save` wrote, read without running anything that they contain."""

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from openmae.errors import UserError, one_line

HARMLESS = (
    # The options of a run: fair, DeiT and timm save them beside the model.
    "argparse.Namespace",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib.PureWindowsPath",
    "pathlib._local.Path",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
    # Numbers: a best accuracy, the state of a random generator, the curves that mmengine keeps.
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "datetime.datetime",
    "datetime.timedelta",
)
"""Names in a pickle that are no weights and do no harm. None of them is called: an `Inert` takes its place."""

LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""How torch.save began a file before it wrote zips: a pickled number of its own."""
NEEDS_CODE = re.compile(r"GLOBAL (\S+)|for unrecognized function (.+)|classes allowlisted .* but got (.+)")
WHAT_TO_DO = "save its tensors as .safetensors on a machine where you trust the file"


class Inert:
    """Stands in a loaded pickle for an object that we do not need. It keeps the attributes and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, Mapping):
            self.__dict__.update({key: value for key, value in state.items() if isinstance(key, str)})


def attributes(value: Any) -> Mapping[str, Any]:
    """The attributes of an inert object, or the items of a mapping; nothing of anything else."""
    if isinstance(value, Inert):
        return vars(value)
    return {key: item for key, item in value.items() if isinstance(key, str)} if isinstance(value, Mapping) else {}


def read_torch_file(file: Path) -> Any:
    """The object in a file of `torch.save`: tensors, plain containers, numbers and text.

    Tensors are mapped into memory where the file allows it, and copied by whoever needs them.

    Raises:
        UserError: when it is damaged, would allocate more than its own size, or needs code to be read.
    """
    is_zip = _kind(file) == "zip"
    try:
        with (
            warnings.catch_warnings(action="ignore"),  # torch warns of old protocols and of its own old classes
            torch.serialization.safe_globals([(Inert, name) for name in HARMLESS]),
        ):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a stranger's bytes raise anything, from struct.error to RecursionError
        complaint = one_line(error).rpartition("WeightsUnpickler error: ")[2]
        found = NEEDS_CODE.search(complaint)
        if found is not None:
            raise _needs_code(file, next(group for group in found.groups() if group)) from error
        raise UserError(
            f"{file} cannot be read as a file of torch ({complaint[:100].strip()}); check that it was copied whole"
        ) from error


def _kind(file: Path) -> Literal["zip", "legacy"]:
    """How torch wrote a file.

    Raises:
        UserError: when it did not, or when the zip would unpack to more than it is: torch stores, it never compresses.
    """
    try:
        with file.open("rb") as opened:
            start = opened.read(len(LEGACY))
        entries = None
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as zipped:
                entries = zipped.infolist()
    except Exception as error:  # a stranger's bytes raise anything, from BadZipFile to UnicodeDecodeError
        raise UserError(
            f"{file} cannot be read as a file of torch ({one_line(error)[:100]}); check that it was copied whole"
        ) from error
    if start == LEGACY:
        return "legacy"
    if entries is None and start.startswith(b"\x80"):
        raise _needs_code(file, "a bare pickle")
    if entries is None:
        raise UserError(f"{file} is not a file that torch.save wrote; check that it was copied whole")
    if any("/code/" in entry.filename for entry in entries):
        raise _needs_code(file, "a TorchScript program")
    packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed or sum(entry.file_size for entry in entries) > file.stat().st_size:
        raise UserError(f"{file} is a compressed or overlapping zip, as torch never writes one; {WHAT_TO_DO}")
    return "zip"


def _needs_code(file: Path, what: str) -> UserError:
    return UserError(
        f"{file} cannot be read without executing code ({what.strip()[:80]}), which OpenMAE never does; {WHAT_TO_DO}"
    )


def require_plain_tensors(tensors: Mapping[str, Any], file: Path) -> dict[str, Tensor]:
    """The same tensors, each dense, on the CPU, and together no larger than the file.

    Raises:
        UserError: otherwise. A tensor may pretend to be larger than its file: by a stride of zero, or on no device.
    """
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise UserError(f"{file} has a {type(value).__name__} called {name[:80]!r} among its tensors; {WHAT_TO_DO}")
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise UserError(f"{file} has a sparse, quantised or empty tensor called {name[:80]!r}; {WHAT_TO_DO}")
        found[name] = value.detach()
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in found.values())
    if claimed > file.stat().st_size:
        raise UserError(
            f"{file} describes tensors of {claimed:,} bytes, more than it has ({file.stat().st_size:,}); check that "
            "it was copied whole"
        )
    return found
