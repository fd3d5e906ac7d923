"""Strict loading: all tensors fit, or an error says which do not."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from openmae.errors import UserError


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """`load_state_dict` that refuses in one readable sentence."""
    require_same(module, tensors, file)
    module.load_state_dict(dict(tensors))


def require_same(module: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Raise UserError unless `tensors` have exactly the names and shapes of the module's own."""
    own = module.state_dict()
    missing, unexpected = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    shapes = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    for names, problem in ((missing, "lacks"), (unexpected, "has in addition"), (shapes, "has in another shape")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(
                f"{file} is of another network: it {problem} {', '.join(names[:3])}{more}; use the recipe that it was "
                "trained with"
            )
