"""Loading tensors strictly: all of them fit, or one sentence says what does not."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from openmae.errors import UserError
from openmae.weights.formats.keys import first_of
from openmae.weights.formats.kinds import appearance


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """`load_state_dict` whose refusal is one readable sentence."""
    require_same(module, tensors, file)
    module.load_state_dict(dict(tensors))


def require_same(module: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Raise UserError, with the first keys of both sides, unless names and shapes are those of `module`."""
    own = module.state_dict()
    missing, unexpected = set(own) - set(tensors), set(tensors) - set(own)
    shapes = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    problems = [
        f"{problem} {first_of(names)}"
        for names, problem in ((missing, "lacks"), (unexpected, "has in addition"))
        if names
    ]
    if shapes and not problems:
        problems = [f"has in another shape {first_of(shapes)}"]
    if problems:
        kind = appearance(unexpected) if missing else ""
        raise UserError(
            f"{file} is of another network: it {' and '.join(problems)}{kind}; use the recipe that it was trained with"
        )
