"""Whether weights are those that a row of the published table names: not every row has a hash."""

from openmae.core.geometry import size_text
from openmae.errors import UserError
from openmae.recipes.zoo import ZooEntry
from openmae.weights.weights import Weights


def require_published(weights: Weights, entry: ZooEntry) -> None:
    """Raise UserError unless weights are of the network that the row names."""
    network = weights.network
    found = (network.backbone, network.image_size, weights.has_decoder, weights.has_head)
    side = entry.image_size
    expected = (entry.backbone, (side, side), entry.has_decoder, entry.kind in ("finetuned", "linear"))
    if found != expected:
        raise UserError(
            f"{weights.file} is not the file of {entry.name}: it is {_words(*found)}, not {_words(*expected)}; delete "
            "it, and it will be downloaded"
        )


def _words(backbone: str, size: tuple[int, int], decoder: bool, head: bool) -> str:
    parts = f"{' with a decoder' if decoder else ''}{' with a classifier' if head else ''}"
    return f"{backbone} at {size_text(size)} pixels{parts}"
