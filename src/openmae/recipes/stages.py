"""Recipes of each stage: pre-training, linear evaluation, fine-tuning."""

from dataclasses import dataclass
from typing import Annotated, Literal

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
from openmae.recipes.recipe import Recipe, Stage
from openmae.recipes.values import ClassWeights, Pooling, TaskName

LABEL_FRACTION = Range(words="lie in (0, 1]", low=0, high=1, without_low=True, hint="0.01 is one per cent")


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe(Recipe):
    """Masked pre-training (section 3; appendix A.1, table 8)."""

    stage = "pretrain"

    published_linear_top1: Suppress[Annotated[float | None, PERCENT]] = None
    """Published ImageNet-1k top-1 of linear evaluation in per cent."""
    split: tuple[str, ...] = ()
    """The splits to train on, such as train unlabeled; all but those for measuring (val, test) when not given."""
    weights: str | None = None
    """Start from these weights rather than from fresh ones: a path, zoo:NAME, hf://owner/name or https://…. Channels
    and image size may differ. A decoder in them is taken along where it is the same."""
    repeats: Annotated[int, at_least(1)] = 1
    """Crops and masks per decoded image; an epoch has that many times the samples."""
    mask_ratio: Annotated[float, BETWEEN_0_AND_1] = 0.75
    """Share of the patches that the encoder does not see."""
    normalise_target: bool = True
    """Predict pixels that are normalised per patch; when off, raw pixels."""
    decoder_width: Annotated[int, at_least(1), at_most(65536)] = 512
    """Width of the decoder's tokens."""
    decoder_depth: Annotated[int, at_least(1), at_most(1000)] = 8
    """Number of decoder blocks."""
    decoder_heads: Annotated[int, at_least(1), at_most(65536)] = 16
    """Attention heads per decoder block."""
    axis_order: Literal["column-first", "row-first"] = "column-first"
    """Axis that the first half of the position channels encodes (fair: column, mm: row)."""
    mlp_bias_std: Annotated[float, NOT_NEGATIVE] = 0.0
    """Standard deviation of the initial MLP biases (fair: 0, mm: 1e-6)."""
    encoder_frozen_epochs: Annotated[float, NOT_NEGATIVE] | Literal["auto"] = 0.0
    """The encoder's rate is 0 for that many epochs, while the decoder learns; its own warm-up follows. auto: a tenth
    of the run where the decoder starts fresh beside an encoder from --weights, else 0."""
    quality_every: Annotated[Annotated[int, NOT_NEGATIVE] | Literal["auto"], NO_EFFECT_ON_RESULTS] = "auto"
    """Epochs between two measurements of quality (loss beside trivial predictors, rank, kNN, reconstructions); 0 for
    none. auto: as often as costs less than 3 % of the run, at most 100 times. The end of a run is always measured."""


@dataclass(frozen=True, kw_only=True)
class SupervisedRecipe(Recipe):
    """The fields that linear evaluation and fine-tuning share."""

    split: str | None = None
    """The split to measure on; test when not given, else val, the first that has labels."""
    train_split: str | None = None
    """The split to train on; train when not given."""
    weights: str | None = None
    """Pre-trained weights: a run folder, a checkpoint, a file or folder of fair, OpenMMLab, Hugging Face or timm, or
    an address: zoo:NAME (`openmae zoo` lists them), hf://owner/name, https://…."""
    task: TaskName = "classification"
    """The target of an image: one class, any number of labels, or one number."""
    class_weights: ClassWeights = "equal"
    """How much an image counts: equal, or balanced: images / (classes x images of its class), for rare classes."""
    untrained: bool = False
    """For comparison: start from fresh weights, with the architecture of --weights."""
    label_fraction: Annotated[float, LABEL_FRACTION] = 1.0
    """Use this share of the labels: a balanced subset drawn with the seed."""
    pool: Pooling = "cls"
    """Input of the classifier: the class token after the norm, or the mean of the patch tokens."""
    crop_attempts: Annotated[int, at_least(1)] = 10
    """Number of attempts to draw a random crop that fits into the image; with 1, the first one is clipped instead."""
    eval_resize: Annotated[int | None, at_least(1)] = None
    """For evaluation, the short side is resized to this, then the centre is cropped. When not given it follows the
    image size: 256 for 224 pixels, 73 for 64, and the whole picture below."""
    eval_every: Annotated[int, at_least(1), NO_EFFECT_ON_RESULTS] = 1
    """Epochs between two evaluations on the test split; the end of a run is always evaluated."""
    head_std: Annotated[float, POSITIVE] = 0.01
    """Standard deviation of the classifier's initial weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resized_to < min(self.image_size):
            raise UserError(
                f"--eval-resize {self.eval_resize} is smaller than the image size {self.image_size}; make it at least "
                f"{min(self.image_size)}, or leave it out: it then follows the image size"
            )

    @property
    def resized_to(self) -> int:
        return super().resized_to if self.eval_resize is None else self.eval_resize


@dataclass(frozen=True, kw_only=True)
class LinearRecipe(SupervisedRecipe):
    """Linear evaluation of a frozen encoder (appendix A.1, table 10)."""

    stage = "linear"

    cached: bool = False
    """Compute the features once, without augmentation, and fit a logistic or ridge regression: seconds, not hours."""
    scale_bias_lr: bool = False
    """Whether LARS scales the rate of biases as well (fair: no, mm: yes)."""
    lr_in_momentum: bool = False
    """Whether the learning rate enters the momentum buffer (fair: no, mm: yes)."""


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(SupervisedRecipe):
    """End-to-end fine-tuning (appendix A.1, table 9; values as fair's FINETUNE notes)."""

    stage = "finetune"

    layer_decay: Annotated[float, SHARE] = 0.75
    """Ratio of a block's learning rate to that of the next block."""
    min_lr_scaled: bool = True
    """Whether layer-wise decay also scales the final learning rate (fair: yes, mm: no)."""
    drop_path: Annotated[float, SHARE] = 0.1
    """Rate of stochastic depth in the last block; it rises linearly from 0 in the first block."""
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    """A RandAugment policy in timm's notation; None switches it off."""
    erasing: Annotated[float, SHARE] = 0.25
    """Probability that a random rectangle is replaced by noise."""
    erasing_clipped: bool = False
    """Whether that noise is clipped to the range of pixels, as if erased before normalising (fair: no, mm: yes)."""
    mixup: Annotated[float, NOT_NEGATIVE] = 0.8
    """Alpha of mixup; 0 switches it off."""
    cutmix: Annotated[float, NOT_NEGATIVE] = 1.0
    """Alpha of CutMix; 0 switches it off."""
    label_smoothing: Annotated[float, SHARE] = 0.1
    """Share of the target that is spread over all classes."""


RECIPE_TYPES: dict[Stage, type[Recipe]] = {
    "pretrain": PretrainRecipe,
    "linear": LinearRecipe,
    "finetune": FinetuneRecipe,
}
