"""Refusing a file whose tensors do not all belong to the layout that it resembles."""

from collections.abc import Sequence

from openmae.errors import UserError
from openmae.weights.formats.keys import KeyTable, first_of
from openmae.weights.formats.kinds import appearance
from openmae.weights.stored import Stored


def refuse_unknown(stored: Stored, unknown: Sequence[str], *, layout: str, ours: KeyTable) -> None:
    """Nothing when every tensor has been renamed.

    Raises:
        UserError: naming the first keys that the layout does not have, and the first that it does.
    """
    if unknown:
        expected = first_of(key for key in stored.tensors if ours.ours(key) is not None) or "none"
        raise UserError(
            f"{stored.file} resembles the layout of {layout} ({expected}) but also has {first_of(unknown)}"
            f"{appearance(unknown)}; give a file of a plain Vision Transformer, or timm's with its config.json"
        )
