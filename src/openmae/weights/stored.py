"""The content of a file, before its layout is recognised."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The content of a file of tensors, and of the configuration files beside it.

    Args:
        tensors: under the names that the file has, without the prefixes of wrappers such as `module.`.
        file: where they come from.
        metadata: of a safetensors file.
        container: the key that contains the tensors in a file of torch, such as "model"; "" when there is none.
        beside: what else a file of torch contains, such as epoch, args or meta.
        config: `config.json`.
        preprocessor: `preprocessor_config.json`.
        assumed: what was assumed while reading, in sentences for the user.
    """

    tensors: Mapping[str, Tensor]
    file: Path
    metadata: Mapping[str, str] = field(default_factory=dict)
    container: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
