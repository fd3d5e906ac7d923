"""What a recipe is: frozen data, validated where it is made, written and read as YAML."""

import dataclasses
import math
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import yaml
from tyro.conf import Suppress

from openmae.errors import UserError

Stage = Literal["pretrain", "linear", "finetune"]
Follows = Literal["fair", "mm", "openmae"]
Pooling = Literal["cls", "mean"]
TaskName = Literal["classification", "multilabel", "regression"]
PixelTypes = Literal["auto", "uint8", "uint16", "float32"]

# YAML 1.1 takes 1e-3 for text, for want of a point and a sign.
EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?e[+-]?\d+", re.IGNORECASE)

# What the numbers of a recipe must satisfy, and which ones. None, and what a stage does not have, is left out.
RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    (
        "be at least 1",
        lambda value: value >= 1,
        "epochs batch_size accumulate channels devices nodes log_every eval_every keep_last crop_attempts repeats "
        "patch_size width depth heads decoder_width decoder_depth decoder_heads",
    ),
    ("be greater than 0", lambda value: 0 < value < math.inf, "clip_norm head_std peer_timeout"),
    (
        "be 0 or greater",
        lambda value: 0 <= value < math.inf,
        "base_lr weight_decay warmup_epochs warmup_start min_lr workers mixup cutmix mlp_bias_std",
    ),
    (
        "lie in 0 … 1",
        lambda value: 0 <= value <= 1,
        "flip erasing max_bad momentum drop_path label_smoothing layer_decay",
    ),
    # Far beyond any network: what a weights file claims is looked at before anything is built.
    ("be at most 1000", lambda value: value <= 1000, "depth decoder_depth"),
    ("be at most 65536", lambda value: value <= 65536, "width decoder_width heads decoder_heads patch_size channels"),
    ("lie between 0 and 1", lambda value: 0 < value < 1, "mask_ratio ema_decay"),
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageSize(NamedTuple):
    """Height and width in pixels.

    >>> ImageSize.parse("224"), str(ImageSize.parse("224x448"))
    (ImageSize(height=224, width=224), '224x448')
    """

    height: int
    width: int

    @classmethod
    def parse(cls, text: str) -> "ImageSize":
        """Read "224" or "224x448" (height x width)."""
        sides = text.lower().split("x")
        if len(sides) > 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
            raise UserError(f"{text!r} is not an image size; write 224, or 224x448 for height x width")
        return cls(int(sides[0]), int(sides[-1]))

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


class Every(NamedTuple):
    """How often something is done.

    >>> Every.parse("5min"), str(Every.parse("200 steps"))
    (Every(number=5.0, unit='min'), '200steps')
    """

    number: float
    unit: Literal["min", "steps", "epochs"]

    @classmethod
    def parse(cls, text: str) -> "Every":
        """Read "5min", "200steps" or "1epoch"."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *(min|step|epoch)(?:ute)?s?", text.strip().lower())
        units: dict[str, Literal["min", "steps", "epochs"]] = {"min": "min", "step": "steps", "epoch": "epochs"}
        if found is None or (float(found[1]) == 0 and found[2] != "min"):
            raise UserError(f"{text!r} does not say how often; write 5min, 200steps or 1epoch")
        return cls(float(found[1]), units[found[2]])

    def __str__(self) -> str:
        return f"{self.number:g}{self.unit}"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every stage needs. Each field is a flag of the command line (`weight_decay` is `--weight-decay`), but for
    those marked Suppress: they say where the recipe comes from.
    """

    stage: ClassVar[Stage]

    name: Suppress[str]
    """What this recipe is called."""
    follows: Suppress[Follows]
    """Whose hyper-parameters these are: fair (facebookresearch/mae), mm (MMSelfSup/MMPretrain) or our own."""
    published_top1: Suppress[float | None] = None
    """ImageNet-1k top-1 (per cent) published for it; for pre-training, after fine-tuning."""
    published_by: Suppress[Literal["fair", "mm"] | None] = None
    """Who published that figure."""
    note: Suppress[str] = ""
    """What to know before using it."""

    data: str | None = None
    """A folder of images, Parquet, tar shards, hf://owner/name, a URL of these, or fashion-mnist (bundled)."""
    labels: str | None = None
    """A CSV file with the columns path and label, for images that lie in no class folders."""
    seed: int = 0
    """Seed of everything random: weights, order, crops, masks."""

    backbone: str
    """A timm VisionTransformer, by name."""
    image_size: ImageSize = ImageSize(224, 224)
    """Images are cropped and resized to this: 224, or 224x448 for height x width."""
    patch_size: int | None = None
    """Side of a patch in pixels; as the backbone defines it when not given."""
    channels: int = 3
    """3 for colour, 1 for grey, else the number of bands that every image has."""
    pixel_type: PixelTypes = "auto"
    """How pixels are kept until the device normalises them; as the data store them when auto."""
    width: int | None = None
    """Width of the encoder's tokens; as the backbone defines it when not given."""
    depth: int | None = None
    """Number of encoder blocks; as the backbone defines it when not given."""
    heads: int | None = None
    """Attention heads per encoder block; as the backbone defines it when not given."""

    normalize: Literal["auto", "recipe", "from-data"] = "auto"
    """from-data measures mean and std on a sample of the images; so does auto where they are not 8-bit colour, unless
    other values than ImageNet's are given. What was used is kept with the weights."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Mean of each channel, pixels in 0 … 1 (floating-point ones as they are)."""
    std: tuple[float, ...] = IMAGENET_STD
    """Standard deviation of each channel."""
    decode: Literal["fast", "exact"] = "fast"
    """fast decodes JPEGs no larger than a crop needs them and resizes in vector instructions; exact does as Pillow."""
    hold: bool = True
    """Hold decoded images in memory where all of them fit into a quarter of what is free."""
    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Smallest and largest share of the image's area that a random crop takes."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """How images are resized."""

    epochs: int
    """Passes over the training images."""
    batch_size: int
    """Images per optimiser step, over all devices and accumulation steps."""
    accumulate: int = 1
    """Forward-backward passes per optimiser step; raise it when a batch does not fit into memory."""
    optimizer: Literal["adamw", "lars", "muon"] = "adamw"
    """muon treats matrices as Muon does and everything else as AdamW does."""
    base_lr: float
    """Learning rate for a batch of 256; the rate used is base_lr * batch_size / 256."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Of AdamW."""
    momentum: float = 0.9
    """Of LARS and Muon."""
    weight_decay: float = 0.05
    """Decoupled; never on biases and norms."""
    decay_tokens: bool = True
    """Whether weight decay also applies to class and mask tokens (pre-training: fair yes, mm no)."""
    warmup_epochs: float = 40
    """Epochs of linear warm-up, per iteration."""
    warmup_start: float = 0.0
    """Where warm-up starts, as a share of the learning rate (fair: 0, mm: 1e-4)."""
    min_lr: float = 0.0
    """Where the cosine ends."""
    clip_norm: float | None = None
    """Clip the gradient's norm; the published recipes do not."""
    ema_decay: float | None = None
    """Keep an exponential moving average of the weights and export that, e.g. 0.9999."""

    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"] = "auto"
    """auto: bf16-mixed on a GPU that has it, else 32-true."""
    compile: bool = False
    """Compile the model with torch.compile."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """How several devices share the work: ddp keeps the whole model on each, fsdp shards it (ViT-H on small GPUs)."""
    devices: int = 1
    """Devices per machine; torchrun's own count wins."""
    nodes: int = 1
    """Number of machines."""
    workers: int | None = None
    """Processes that decode images; as many as this machine has to spare when not given."""
    log_every: int = 20
    """Steps between two lines in metrics.jsonl."""
    track: Literal["wandb", "mlflow"] | None = None
    """Also send the curves there; TensorBoard files are written in any case."""
    save_every: Every = Every(10, "min")
    """How often a checkpoint is written: 5min, 200steps, 1epoch; there is one at the end in any case."""
    keep_last: int = 2
    """How many checkpoints to keep."""
    peer_timeout: float = 20.0
    """Seconds without a sign of life from one of several processes, or from a stopped data worker, until all end."""
    max_bad: float = 0.01
    """Stop when more than this share of the images read cannot be decoded."""

    def __post_init__(self) -> None:
        if self.strategy == "fsdp" and (self.ema_decay is not None or self.precision == "16-mixed"):
            raise UserError(
                "--strategy fsdp knows neither --ema-decay nor --precision 16-mixed; leave them out, or use "
                "--strategy ddp"
            )
        for words, test, names in RANGES:
            for name in names.split():
                value = getattr(self, name, None)
                if value is not None and not test(value):
                    raise UserError(f"--{name.replace('_', '-')} must {words}, not {value}")
        if not len(self.mean) == len(self.std) == self.channels and not self.measures_statistics:
            raise UserError(
                f"--mean has {len(self.mean)} values and --std {len(self.std)} for {self.channels} channels; give one "
                "of each per channel, or --normalize from-data"
            )
        if not all(map(math.isfinite, self.mean)) or not all(0 < value < math.inf for value in self.std):
            raise UserError(f"--mean must be numbers and --std positive ones, not {self.mean} and {self.std}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"--betas must lie in 0 … 1, 1 excluded, not {self.betas}")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise UserError(f"--crop-scale must be two rising shares in (0, 1], not {self.crop_scale}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"--seed must lie in 0 … 4294967295, not {self.seed}")

    @property
    def measures_statistics(self) -> bool:
        """Whether mean and std will be measured; of 8-bit colour only when asked to."""
        if self.normalize != "auto":
            return self.normalize == "from-data"
        default = (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD)
        return default and (self.channels != 3 or self.pixel_type not in ("auto", "uint8"))

    @property
    def lr(self) -> float:
        """The peak learning rate: scaled linearly with the global batch (Goyal et al., arXiv 1706.02677)."""
        return self.base_lr * self.batch_size / 256


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe(Recipe):
    """Masked pre-training (section 3; appendix A.1, table 8)."""

    stage = "pretrain"

    published_linear_top1: Suppress[float | None] = None
    """The same for linear evaluation."""
    weights: str | None = None
    """Start from this encoder rather than from fresh weights; channels and image size may differ."""
    repeats: int = 1
    """Crops and masks of each image that come of decoding it once; an epoch has that many times the samples."""
    mask_ratio: float = 0.75
    """Share of the patches that is hidden."""
    normalise_target: bool = True
    """Predict pixels normalised per patch; raw pixels when off."""
    decoder_width: int = 512
    """Width of the decoder's tokens."""
    decoder_depth: int = 8
    """Number of decoder blocks."""
    decoder_heads: int = 16
    """Attention heads per decoder block."""
    axis_order: Literal["column-first", "row-first"] = "column-first"
    """Which axis the first half of the position channels encodes (fair: column, mm: row)."""
    mlp_bias_std: float = 0.0
    """Standard deviation of the initial MLP biases (fair: 0, mm: 1e-6)."""


@dataclass(frozen=True, kw_only=True)
class SupervisedRecipe(Recipe):
    """What linear evaluation and fine-tuning share."""

    weights: str | None = None
    """Pre-trained weights: a run folder, a checkpoint or an encoder.safetensors."""
    task: TaskName = "classification"
    """What is learnt from the labels: one class, any number of labels, or one number for each image."""
    untrained: bool = False
    """Take only the architecture of --weights and start from fresh weights, for comparison."""
    label_fraction: float = 1.0
    """Use this share of the labels: a balanced subset drawn with the seed."""
    pool: Pooling = "cls"
    """What the classifier sees: the class token after the norm, or the mean of the patch tokens."""
    crop_attempts: int = 10
    """How often a random crop that does not fit is drawn again; 1 clips it instead."""
    eval_resize: int = 256
    """For evaluation the short side is resized to this, then the centre is cropped."""
    eval_every: int = 1
    """Epochs between two evaluations on the test split; there is one at the end in any case."""
    head_std: float = 0.01
    """Standard deviation of the classifier's initial weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.label_fraction <= 1:
            raise UserError(f"--label-fraction must lie in (0, 1], not {self.label_fraction}; 0.01 is one per cent")
        if self.eval_resize < min(self.image_size):
            raise UserError(
                f"--eval-resize {self.eval_resize} is smaller than the image size {self.image_size}; make it at least "
                f"{min(self.image_size)}"
            )


@dataclass(frozen=True, kw_only=True)
class LinearRecipe(SupervisedRecipe):
    """Linear evaluation of a frozen encoder (appendix A.1, table 10)."""

    stage = "linear"

    cached: bool = False
    """Compute the features once, without augmentation, and fit a logistic regression to them: seconds, not hours."""
    scale_bias_lr: bool = False
    """Whether LARS scales the rate of biases as well (fair: no, mm: yes)."""
    lr_in_momentum: bool = False
    """Whether the learning rate enters the momentum buffer (fair: no, mm: yes)."""


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(SupervisedRecipe):
    """End-to-end fine-tuning (appendix A.1, table 9; values as fair's FINETUNE notes)."""

    stage = "finetune"

    layer_decay: float = 0.75
    """Each block's learning rate is this times that of the block above it."""
    min_lr_scaled: bool = True
    """Whether layer-wise decay also scales the final learning rate (fair: yes, mm: no)."""
    drop_path: float = 0.1
    """Stochastic depth of the last block; earlier ones get proportionally less."""
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    """timm's name of a RandAugment policy; None switches it off."""
    erasing: float = 0.25
    """Probability that a random rectangle becomes noise."""
    erasing_clipped: bool = False
    """Whether that noise is clipped to what pixels can be, as if erased before normalising (fair: no, mm: yes)."""
    mixup: float = 0.8
    """Alpha of mixup; 0 switches it off."""
    cutmix: float = 1.0
    """Alpha of CutMix; 0 switches it off."""
    label_smoothing: float = 0.1
    """Share of the target spread over all classes."""


RECIPE_TYPES: dict[Stage, type[Recipe]] = {
    "pretrain": PretrainRecipe,
    "linear": LinearRecipe,
    "finetune": FinetuneRecipe,
}


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain values only, in the order of the fields, `stage` first."""

    def plain(value: Any) -> Any:
        if isinstance(value, ImageSize | Every):
            return str(value)
        return list(value) if isinstance(value, tuple) else value

    fields = {field.name: plain(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}
    return {"stage": recipe.stage, **fields}


def to_yaml(recipe: Recipe) -> str:
    """The whole recipe as YAML; `from_yaml` reads it back."""
    return yaml.safe_dump(to_dict(recipe), sort_keys=False, allow_unicode=True)


def from_yaml(text: str) -> Recipe:
    """Read a recipe that `to_yaml` wrote.

    Raises:
        UserError: when the text is no such recipe; the message names the field.
    """
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that there is not
        problem = " ".join(str(error).split())[:200]
        raise UserError(f"not a readable recipe ({problem}); `openmae recipes NAME` prints one") from error
    if not isinstance(values, dict) or str(values.get("stage")) not in RECIPE_TYPES:
        raise UserError(
            "not a recipe: it has no stage of pretrain, linear or finetune; `openmae recipes NAME` prints one"
        )
    kind = RECIPE_TYPES[values.pop("stage")]
    types = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(map(str, set(values) - known)):
        raise UserError(
            f"unknown recipe fields: {', '.join(unknown)}; `openmae recipes NAME` prints the ones there are"
        )
    try:
        return kind(**{name: _typed(name, value, types[name]) for name, value in values.items()})
    except TypeError as error:
        raise UserError(f"incomplete recipe: {error}") from error


def _typed(name: str, value: Any, kind: Any) -> Any:
    """`value` as the field's type demands it, or a UserError that says what was expected."""
    if kind in (ImageSize, Every):
        return kind.parse(str(value))
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list) or not all(type(part) in (int, float) for part in value):
            raise UserError(f"{name} must be a list of numbers, not {value!r}")
        parts = typing.get_args(kind)
        if ... not in parts and len(value) != len(parts):
            raise UserError(f"{name} must be a list of {len(parts)} numbers, not {value!r}")
        return tuple(float(part) for part in value)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise UserError(f"{name} must be one of {', '.join(map(str, typing.get_args(kind)))}, not {value!r}")
        return value
    options = typing.get_args(kind) or (kind,)  # a union such as float | None
    if float in options and isinstance(value, str) and EXPONENT.fullmatch(value):
        value = float(value)
    if (isinstance(value, bool) and bool not in options) or not any(_is(value, option) for option in options):
        names = " or ".join(_describe(option) for option in options)
        raise UserError(f"{name} must be {names}, not {value!r}")
    return float(value) if float in options and isinstance(value, int) and not isinstance(value, bool) else value


def _describe(option: Any) -> str:
    if typing.get_origin(option) is Literal:
        return " or ".join(map(str, typing.get_args(option)))
    return "null" if option is type(None) else str(option.__name__)


def _is(value: Any, option: Any) -> bool:
    if typing.get_origin(option) is Literal:
        return value in typing.get_args(option)
    return isinstance(value, (int, float) if option is float else option)
