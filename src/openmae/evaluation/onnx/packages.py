"""The packages that ONNX files need; the extra `onnx` installs them."""

from importlib import import_module
from typing import Any

from openmae.errors import UserError

MISSING = "ONNX files need {}, which is not installed; run `pip install 'openmae[onnx]'`"


def package(name: str) -> Any:
    """onnx, onnxruntime or onnxscript.

    Raises:
        UserError: when it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(MISSING.format(name)) from error
