"""Drop path (Huang et al., arXiv 1603.09382) whose randomness is an argument of the forward pass."""

from typing import Any

from timm.layers.drop import DropPath
from torch import Tensor, nn


class GivenDropPath(nn.Module):
    """Leaves out a residual branch for those images whose uniform random number is below the rate.

    Same distribution and scaling as timm's DropPath, which draws from torch's global generator instead.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.uniform_B: Tensor | None = None

    def forward(self, branch: Tensor) -> Tensor:
        """The branch [B, …]: zero for images whose number is below the rate, and scaled up for the others.

        Without numbers the branch is returned as it is.
        """
        if self.uniform_B is None:
            return branch
        kept_B = (self.uniform_B >= self.rate).to(branch.dtype) / ((1 - self.rate) or 1)
        return branch * kept_B.view(-1, *[1] * (branch.ndim - 1))


def take_drop_path_as_argument(model: nn.Module) -> None:
    """Replace each DropPath of `model`, in place, so that `model(images, uniform=uniform_BN)` drops by these numbers.

    `uniform_BN` are uniform random numbers in [0, 1); N is `drop_paths(model)`. A call without `uniform` drops
    nothing, in training mode either.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, DropPath):
                setattr(parent, name, GivenDropPath(child.drop_prob))

    def hand_out(module: nn.Module, images: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        uniform_BN = named.pop("uniform", None)
        for column, part in enumerate(_parts(module)):
            part.uniform_B = None if uniform_BN is None else uniform_BN[:, column]
        return images, named

    model.register_forward_pre_hook(hand_out, with_kwargs=True)


def drop_paths(model: nn.Module) -> int:
    """N, how many uniform random numbers each image needs."""
    return len(_parts(model))


def _parts(model: nn.Module) -> list[GivenDropPath]:
    return [part for part in model.modules() if isinstance(part, GivenDropPath)]
