"""GPUs by their makers' data sheets, and how fast they train by an assumed share of their peak."""

from math import inf
from types import MappingProxyType
from typing import NamedTuple

from openmae.errors import UserError

SHARE = 0.4
"""The share of the peak that a training is assumed to reach. Published for this network: ViT-B at 1,977 images/s on an
A100 (DailyMAE, arXiv 2404.00509) is 37 %."""
FASTEST_PASS = 0.010
"""Seconds that a forward and backward pass takes at least, however small the network: assumed, for the time in which
the operations are started."""


class Gpu(NamedTuple):
    """A GPU.

    Args:
        peak: operations per second, dense (without sparsity) in bf16 with sums in single precision.
        memory: bytes.
        source: the document that names the two.
    """

    peak: float
    memory: float
    source: str


# Lightning has such a table (`lightning_fabric.utilities.throughput`), but private, and it takes the rate with sparsity
# for some GPUs and that of the units without tensor cores for others.
GPUS = MappingProxyType(
    {
        "A100": Gpu(312e12, 80e9, "NVIDIA A100 80GB data sheet"),
        "A100-40GB": Gpu(312e12, 40e9, "NVIDIA A100 data sheet"),
        "H100": Gpu(989.4e12, 80e9, "NVIDIA H100 data sheet, SXM: 1,979 with sparsity"),
        "H100-PCIe": Gpu(756e12, 80e9, "NVIDIA H100 data sheet, PCIe: 1,513 with sparsity"),
        "H200": Gpu(989.4e12, 141e9, "NVIDIA H200 data sheet, SXM: 1,979 with sparsity"),
        "B200": Gpu(2250e12, 180e9, "NVIDIA Blackwell data sheet, HGX B200: 4,500 with sparsity"),
        "MI300X": Gpu(1307.4e12, 192e9, "AMD Instinct MI300X data sheet: 2,614.9 with sparsity"),
        "L40S": Gpu(362.05e12, 48e9, "NVIDIA L40S data sheet: 733 with sparsity"),
        "L4": Gpu(121e12, 24e9, "NVIDIA L4 data sheet: 242 with sparsity"),
        "A40": Gpu(149.7e12, 48e9, "NVIDIA A40 data sheet: 299.4 with sparsity"),
        "A30": Gpu(165e12, 24e9, "NVIDIA A30 data sheet: 330 with sparsity"),
        "A10": Gpu(125e12, 24e9, "NVIDIA A10 data sheet: 250 with sparsity"),
        "RTX-4090": Gpu(165.2e12, 24e9, "NVIDIA Ada GPU architecture white paper, appendix A: 330.4 with sparsity"),
        "RTX-3090": Gpu(71e12, 24e9, "NVIDIA Ampere GA102 white paper, appendix A: 142 with sparsity"),
    }
)
USUAL = ("A100", "H100", "L40S", "RTX-4090")
"""The GPUs of a plan that names none."""


def images_per_second(gpu: Gpu, operations: float, share: float = SHARE, *, at_once: float = inf) -> float:
    """Of one GPU.

    Args:
        gpu: its peak.
        operations: of the forward and backward pass of an image.
        share: of the peak.
        at_once: images in a pass.
    """
    return min(gpu.peak * share / operations, at_once / FASTEST_PASS)


def find_gpu(name: str) -> str:
    """The name of a GPU in the table, however its letters are written: "rtx 4090" is RTX-4090.

    Raises:
        UserError: when the table has none of that name.
    """
    wanted = name.strip().replace(" ", "-").lower()
    for known in GPUS:
        if known.lower() == wanted:
            return known
    raise UserError(f"no data sheet of a GPU called {name!r} is known; use one of {', '.join(GPUS)}")
