"""Published pre-trainings by the number of samples that they saw, and what follows for a set of another size."""

from typing import NamedTuple, TypedDict

from openmae.recipes import RECIPES, PretrainRecipe

IMAGENET = 1_281_167
"""Images of the training split of ImageNet-1k, on which the published networks were trained."""
LARGE_SET = 250_000
"""From so many images on the ImageNet recipes are the nearer ones."""
FEW_IMAGES = 10_000
LARGEST_BATCH, SMALLEST_BATCH = 4096, 64
FEWEST_STEPS = 24_000
"""The fewest steps of the published runs below that trained on for long: CIFAR-10, 2000 epochs of 12 whole batches."""


class SmallRun(NamedTuple):
    """A published run on a small set."""

    name: str
    images: int
    epochs: int
    result: str
    source: str


SMALL_RUNS = (
    SmallRun("ViT-Tiny/2 on CIFAR-10", 50_000, 2000, "fine-tuned 89.8, from scratch 74.1", "IcarusWizard/MAE"),
    SmallRun("ViT-S/16 on Imagenette", 9_469, 200, "kNN 72.1, linear 84.1", "stable-pretraining"),
)


class PublishedRun(TypedDict):
    """A published run beside the planned one.

    `share` is the number of samples of the planned run as a share of those that this one saw.
    """

    name: str
    images: int
    epochs: int
    samples: int
    result: str
    source: str
    share: float


class Proposal(TypedDict):
    """A number of epochs for a set, and the batch, rate, steps and samples that follow."""

    epochs: int
    batch_size: int
    lr: float
    steps: int
    samples: int
    like: str


def published_runs(recipe: PretrainRecipe, samples: int) -> list[PublishedRun]:
    """The published runs beside one that sees so many samples: those of its backbone, else ViT-B's, and small sets."""
    rows = [one for one in RECIPES.values() if isinstance(one, PretrainRecipe) and one.follows == "fair"]
    of_backbone = [row for row in rows if row.backbone == recipe.backbone]
    found = of_backbone or [row for row in rows if row.name.startswith("vit-b16")]
    runs = [
        SmallRun(
            f"{row.name} on ImageNet",
            IMAGENET,
            row.epochs,
            f"fine-tuned {row.published_top1}"
            + (f", linear {row.published_linear_top1}" if row.published_linear_top1 else ""),
            {"fair": "facebookresearch/mae", "mm": "MMSelfSup"}[row.published_by or "mm"],
        )
        for row in found
    ]
    return [
        {
            "name": run.name,
            "images": run.images,
            "epochs": run.epochs,
            "samples": run.images * run.epochs,
            "result": run.result,
            "source": run.source,
            "share": samples / (run.images * run.epochs),
        }
        for run in (*runs, *SMALL_RUNS)
    ]


def propose(recipe: PretrainRecipe, images: int) -> list[Proposal]:
    """The shortest and the longest run that published ones on sets of about this size speak for."""
    ends = (
        ((300, "shortest published on ImageNet"), (1600, "longest published on ImageNet"))
        if images >= LARGE_SET
        else ((200, "as published on Imagenette"), (2000, "as published on CIFAR-10"))
    )
    proposals: list[Proposal] = []
    for epochs, like in ends:
        samples = images * recipe.repeats * epochs
        batch = fitting_batch(images * recipe.repeats, samples)
        steps = epochs * (images * recipe.repeats // batch)
        proposals.append(
            {
                "epochs": epochs,
                "batch_size": batch,
                "lr": recipe.base_lr * batch / 256,
                "steps": steps,
                "samples": steps * batch,
                "like": like,
            }
        )
    return proposals


def fitting_batch(images: int, samples: int) -> int:
    """The largest power of two that leaves a run enough steps, and an epoch two.

    >>> [fitting_batch(images, epochs * images) for images, epochs in ((1_281_167, 800), (50_000, 2000), (5_000, 2000))]
    [4096, 4096, 256]
    """
    most = min(samples // FEWEST_STEPS, images // 2)
    batch = LARGEST_BATCH
    while batch > max(SMALLEST_BATCH, most):
        batch //= 2
    return min(batch, images)
