"""The fields that recipes of every stage share. A recipe is frozen data, converted and checked when it is made."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import Suppress

from openmae.errors import UserError
from openmae.recipes.constraints import (
    BETWEEN_0_AND_1,
    NO_EFFECT_ON_RESULTS,
    NOT_NEGATIVE,
    PERCENT,
    POSITIVE,
    SHARE,
    Range,
    at_least,
    at_most,
)
from openmae.recipes.conversion import convert, flag
from openmae.recipes.values import Every, ImageSize, Nodata, Pages, PixelRange, as_text, usual_eval_resize

Stage = Literal["pretrain", "linear", "finetune"]

AS_WEIGHTS = "as-weights"
"""The backbone of a recipe that takes its whole network from the weights."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

SEED = Range(words="lie in 0 … 4294967295", low=0, high=2**32 - 1)
BETAS = Range(words="lie in 0 … 1, 1 excluded", low=0, high=1, without_high=True)
CROP_SCALE = Range(words="be two rising shares in (0, 1]", low=0, high=1, without_low=True)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The fields of every stage. Each is a flag of the command line (`weight_decay` is `--weight-decay`), except those
    marked Suppress, which say where the recipe comes from.

    Beside its type a field declares its range, and whether it leaves the results as they are. Values are converted to
    the declared types here, for the command line, Python and YAML alike.
    """

    stage: ClassVar[Stage]

    name: Suppress[str]
    """Name of the recipe."""
    follows: Suppress[Literal["fair", "mm", "openmae"]]
    """Source of the hyper-parameters: fair (facebookresearch/mae), mm (MMSelfSup/MMPretrain) or our own."""
    published_top1: Suppress[Annotated[float | None, PERCENT]] = None
    """Published ImageNet-1k top-1 in per cent; of a pre-training recipe, after fine-tuning."""
    published_by: Suppress[Literal["fair", "mm"] | None] = None
    """Source of that figure."""
    note: Suppress[str] = ""
    """Advice to read before using the recipe."""

    data: str | tuple[str, ...] | None = None
    """A folder of images, Parquet, tar shards, a glob or a list of images, hf://owner/name, a URL of these, or
    fashion-mnist (bundled). Given several times, all of them are one data set."""
    labels: str | None = None
    """A CSV file with the columns path and label, for images that are not in class folders."""
    seed: Annotated[int, SEED] = 0
    """Seed of everything random: weights, order, crops, masks."""

    backbone: str
    """Name of a timm VisionTransformer. as-weights, to pre-train only: the whole network is that of --weights, but
    for flags that are given."""
    image_size: ImageSize = ImageSize(224, 224)
    """Images are cropped and resized to this: 224, or 224x448 for height x width."""
    # The bounds above lie far beyond any network: a weights file is refused before an absurd one is built.
    patch_size: Annotated[int | None, at_least(1), at_most(65536)] = None
    """Side of a patch in pixels; the backbone's own when not given."""
    channels: Annotated[int, at_least(1), at_most(65536)] = 3
    """3 for colour, 1 for grey, else the number of bands of every image."""
    pixel_type: Literal["auto", "uint8", "uint16", "float32"] = "auto"
    """Number format of pixels until the device normalises them; with auto, the format of the files."""
    pixel_range: PixelRange | None = None
    """The numbers in the images that are black and white, for --weights that were trained on images of another range;
    when not given, as the type of the images says."""
    width: Annotated[int | None, at_least(1), at_most(65536)] = None
    """Width of the encoder's tokens; the backbone's own when not given."""
    depth: Annotated[int | None, at_least(1), at_most(1000)] = None
    """Number of encoder blocks; the backbone's own when not given."""
    heads: Annotated[int | None, at_least(1), at_most(65536)] = None
    """Attention heads per encoder block; the backbone's own when not given."""

    nodata: Nodata = "auto"
    """The value of pixels that hold no data, such as -9999. They are left out of mean, std and loss, and images become
    float32. auto: the value that a GeoTIFF names, or a negative or huge one far from all others; none: no value does.
    NaN is no data in any case."""
    pages: Pages = "auto"
    """The pages of a TIFF: channels of one picture, images of their own, or previews of the first. auto believes what
    OME and ImageJ files say, and asks where nothing says it."""
    max_pixels: Annotated[int, at_least(1)] = 200_000_000
    """Images with more pixels are bad: they could be a decompression bomb."""

    normalize: Literal["auto", "recipe", "from-data"] = "auto"
    """from-data measures mean and std on a sample of the images and saves them with the weights; recipe never does.
    auto does, unless the images are 8-bit colour or other values than ImageNet's are given."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Mean of each channel, for pixels in 0 … 1; floating-point pixels are not rescaled."""
    std: Annotated[tuple[float, ...], POSITIVE] = IMAGENET_STD
    """Standard deviation of each channel."""
    decode: Literal["fast", "exact"] = "fast"
    """fast decodes JPEGs only as large as the crop needs and resizes with vector instructions; exact equals Pillow."""
    hold: bool = True
    """Cache decoded images in memory when all of them fit into a quarter of the free memory."""
    crop_scale: Annotated[tuple[float, float], CROP_SCALE] = (0.2, 1.0)
    """Smallest and largest share of the image's area that a random crop takes."""
    flip: Annotated[float, SHARE] = 0.5
    """Probability of a horizontal flip."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Filter for resizing images."""

    epochs: Annotated[int, at_least(1)]
    """Passes over the training images."""
    batch_size: Annotated[int, at_least(1)]
    """Images per optimiser step, over all devices and accumulation steps. auto (pretrain): this number, in as few
    accumulation steps as memory permits."""
    accumulate: Annotated[int, at_least(1)] = 1
    """Forward-backward passes per optimiser step; increase it when a batch does not fit into memory."""
    optimizer: Literal["adamw", "lars", "muon"] = "adamw"
    """muon updates matrices with Muon and all other parameters with AdamW."""
    base_lr: Annotated[float, NOT_NEGATIVE]
    """Learning rate for a batch of 256; the rate used is base_lr * batch_size / 256."""
    betas: Annotated[tuple[float, float], BETAS] = (0.9, 0.95)
    """Decay rates of AdamW's two moving averages."""
    momentum: Annotated[float, SHARE] = 0.9
    """Momentum of LARS and Muon."""
    weight_decay: Annotated[float, NOT_NEGATIVE] = 0.05
    """Decoupled weight decay; never applied to biases and norms."""
    decay_tokens: bool = True
    """Whether weight decay also applies to class and mask tokens (pre-training: fair yes, mm no)."""
    warmup_epochs: Annotated[float, NOT_NEGATIVE] = 40
    """Epochs of linear warm-up; the rate rises with every step."""
    warmup_start: Annotated[float, NOT_NEGATIVE] = 0.0
    """Start of the warm-up, as a share of the learning rate (fair: 0, mm: 1e-4)."""
    min_lr: Annotated[float, NOT_NEGATIVE] = 0.0
    """Learning rate at the end of the cosine."""
    clip_norm: Annotated[float | None, POSITIVE] = None
    """Clip the gradient to this norm; the published recipes do not clip."""
    ema_decay: Annotated[float | None, BETWEEN_0_AND_1] = None
    """Decay of an exponential moving average of the weights, which is exported instead of them; 0.9999, say."""

    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"] = "auto"
    """auto: bf16-mixed on a GPU that has it, else 32-true."""
    compile: bool = False
    """Compile the model with torch.compile."""
    strategy: Annotated[Literal["auto", "ddp", "fsdp"], NO_EFFECT_ON_RESULTS] = "auto"
    """How several devices share the work: ddp keeps the whole model on each, fsdp shards it (ViT-H on small GPUs)."""
    devices: Annotated[int, at_least(1), NO_EFFECT_ON_RESULTS] = 1
    """Devices per machine; under torchrun, its count is used instead."""
    nodes: Annotated[int, at_least(1), NO_EFFECT_ON_RESULTS] = 1
    """Number of machines."""
    workers: Annotated[int | None, NOT_NEGATIVE, NO_EFFECT_ON_RESULTS] = None
    """Processes that decode images; one per spare processor of this machine when not given."""
    log_every: Annotated[int, at_least(1), NO_EFFECT_ON_RESULTS] = 20
    """Steps between two lines in metrics.jsonl."""
    track: Annotated[Literal["wandb", "mlflow"] | None, NO_EFFECT_ON_RESULTS] = None
    """Also send the curves to this tracker; TensorBoard files are always written."""
    report: Annotated[bool, NO_EFFECT_ON_RESULTS] = False
    """Write report.html into the run folder at the end, as `openmae report` does."""
    save_every: Annotated[Every, NO_EFFECT_ON_RESULTS] = Every(10, "min")
    """Time or steps between two checkpoints: 5min, 200steps, 1epoch; the end of a run is always saved."""
    keep_last: Annotated[int, at_least(1), NO_EFFECT_ON_RESULTS] = 2
    """Number of checkpoints to keep."""
    peer_timeout: Annotated[float, POSITIVE, NO_EFFECT_ON_RESULTS] = 20.0
    """Seconds without a sign of life from one of several processes, or from a stopped data worker, until all end."""
    max_bad: Annotated[float, SHARE, NO_EFFECT_ON_RESULTS] = 0.01
    """Stop when more than this share of the images read cannot be decoded."""
    accept_changed_data: Annotated[bool, NO_EFFECT_ON_RESULTS] = False
    """Continue a run though its images have changed since it began; the changes are recorded in its results."""

    def __post_init__(self) -> None:
        for name, declared in declarations(type(self)).items():
            object.__setattr__(self, name, convert(flag(name), getattr(self, name), declared))
        if self.data is not None:
            object.__setattr__(self, "data", as_text(self.data) or None)
        if self.strategy == "fsdp" and (self.ema_decay is not None or self.precision == "16-mixed"):
            raise UserError(
                "--strategy fsdp knows neither --ema-decay nor --precision 16-mixed; leave them out, or use "
                "--strategy ddp"
            )
        if not len(self.mean) == len(self.std) == self.channels and not self.measures_statistics:
            raise UserError(
                f"--mean has {len(self.mean)} values and --std {len(self.std)} for {self.channels} channels; give one "
                "of each per channel, or --normalize from-data"
            )
        smallest, largest = self.crop_scale
        if smallest > largest:
            raise UserError(f"--crop-scale must {CROP_SCALE.words}, not {self.crop_scale}")

    @classmethod
    def fields_without_effect(cls) -> frozenset[str]:
        """The fields that change no result: a run may be continued with another value of them."""
        return frozenset(
            name
            for name, declared in declarations(cls).items()
            if NO_EFFECT_ON_RESULTS in getattr(declared, "__metadata__", ())
        )

    @property
    def measures_statistics(self) -> bool:
        """Whether mean and std will be measured; of 8-bit colour only when asked to."""
        if self.normalize != "auto":
            return self.normalize == "from-data"
        default = (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD)
        return default and (self.channels != 3 or self.pixel_type not in ("auto", "uint8"))

    @property
    def resized_to(self) -> int:
        """For evaluation, the short side is resized to this many pixels, then the centre is cropped."""
        return usual_eval_resize(self.image_size)

    @property
    def lr(self) -> float:
        """The peak learning rate: scaled linearly with the global batch (Goyal et al., arXiv 1706.02677)."""
        return self.base_lr * self.batch_size / 256


def declarations(kind: type[Recipe]) -> Mapping[str, Any]:
    """The declared type of each field, with its markers."""
    hashable: Any = kind  # a class is, but mypy looks at its instances
    return _declarations(hashable)


@cache
def _declarations(kind: Any) -> Mapping[str, Any]:
    declared = typing.get_type_hints(kind, include_extras=True)
    return MappingProxyType({field.name: declared[field.name] for field in fields(kind)})
