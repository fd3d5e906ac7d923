"""The result of `openmae plan`, as it is returned and printed by `--json`."""

from typing import TypedDict

from openmae.reporting.plan.cautions import Caution
from openmae.reporting.plan.published_runs import Proposal, PublishedRun
from openmae.training.trial import Limit


class NetworkCost(TypedDict):
    """Counts of one network; operations are of one image, and a multiplication with its addition is two."""

    parameters: int
    encoder_parameters: int
    patches: int
    visible_patches: int
    encoder_flop: int
    decoder_flop: int
    training_flop: int


class RunSize(TypedDict):
    """How long the run is; `images_at_once` is of each device."""

    images: int
    images_assumed: bool
    epochs: int
    batch_size: int
    accumulate: int
    devices: int
    images_at_once: int
    lr: float
    warmup_epochs: float
    steps_per_epoch: int
    steps: int
    samples: int
    flop: int


class MemoryParts(TypedDict):
    """Bytes of one process, by part; on this machine also what is `available`, and for how many images at once."""

    precision: str
    weights: int
    gradients: int
    optimizer: int
    average: int
    exchange: int
    copies: int
    each_image: int
    images_at_once: int
    images: int
    reserved: int
    total: int
    available: int | None
    most_images_at_once: int | None


class Disk(TypedDict):
    """Bytes of the run folder: of a checkpoint, of the encoder's file, and the most at any time."""

    checkpoint: int
    kept: int
    encoder: int
    most: int


class Here(TypedDict):
    """The run on this machine, from a trial; `waiting_for_data` is a share of the time."""

    device: str
    devices: int
    threads: int
    workers: int
    trial_seconds: float
    tried_images_at_once: int
    images_per_second: float
    first_epoch_images_per_second: float
    loader_images_per_second: float
    waiting_for_data: float
    images_held_in_memory: bool
    step_seconds: float
    seconds: float
    hours: float
    limited_by: Limit
    cost: float | None


class OnGpu(TypedDict):
    """The run on GPUs of one kind, from their data sheet; the last two are None when no image fits into memory."""

    name: str
    devices: int
    peak_flops: float
    memory: int
    source: str
    images_per_second: float
    hours: float | None
    cost: float | None
    images_at_once: int | None
    accumulate: int | None


class PlanResult(TypedDict):
    """A planned pre-training. `run` is None while the number of images is not known, `here` without a trial."""

    recipe: str
    backbone: str
    image_size: list[int]
    data: str | list[str] | None
    network: NetworkCost
    run: RunSize | None
    memory: MemoryParts
    """On this machine."""
    memory_on_gpu: MemoryParts
    disk: Disk
    here: Here | None
    gpus: list[OnGpu]
    share: float
    """Of the GPUs' peak that is assumed."""
    proposals: list[Proposal]
    published: list[PublishedRun]
    cautions: list[Caution]
