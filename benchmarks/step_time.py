"""The time of one pre-training step, and how much of it encoding only the visible patches saves (paper, table 2).

    python benchmarks/step_time.py [--recipe vit-b16-800e] [--batch 8] [--rounds 5]

Three networks take turns in one process; prints their medians: ours; the same with all patches through the encoder, of
which the hidden ones are dropped afterwards; and Hugging Face's ViTMAEForPreTraining of the same size.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date

import torch
from torch import Tensor

from openmae.core.masking import kept_count, random_mask
from openmae.core.patches import take_patches
from openmae.recipes import PretrainRecipe, find_recipe
from openmae.weights.networks import network_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="vit-b16-800e")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    recipe = find_recipe(options.recipe, "pretrain")
    assert isinstance(recipe, PretrainRecipe)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.randn(options.batch, recipe.channels, *recipe.image_size, device=device)
    steps = {"openmae": ours(recipe, images), "every patch encoded": unmasked(recipe, images)}
    steps["transformers"] = hugging_face(recipe, images)

    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{platform.processor() or platform.machine()} CPU"
    print(
        json.dumps(
            {
                "date": str(date.today()),
                "machine": f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}",
                "recipe": recipe.name,
                "batch": options.batch,
                "median_seconds": {name: round(value, 4) for name, value in median.items()},
                "times_ours": {name: round(value / median["openmae"], 2) for name, value in median.items()},
            },
            indent=1,
        )
    )


def ours(recipe: PretrainRecipe, images: Tensor) -> Callable[[], None]:
    model = network_of(recipe).build_autoencoder().to(images.device)
    kept = kept_count(model.geometry.patches, recipe.mask_ratio)

    def step() -> None:
        mask = random_mask(batch=len(images), patches=model.geometry.grid, kept=kept).to(images.device)
        model(images, mask).loss.backward()
        model.zero_grad()

    return step


def unmasked(recipe: PretrainRecipe, images: Tensor) -> Callable[[], None]:
    model = network_of(recipe).build_autoencoder().to(images.device)
    kept, prefix = kept_count(model.geometry.patches, recipe.mask_ratio), model.encoder.num_prefix_tokens

    def step() -> None:
        mask = random_mask(batch=len(images), patches=model.geometry.grid, kept=kept).to(images.device)
        tokens = model.encode(images)
        visible = torch.cat([tokens[:, :prefix], take_patches(tokens[:, prefix:], mask.kept)], dim=1)
        model.loss(model.geometry.patchify(images), model.decoder(visible, mask), mask).backward()
        model.zero_grad()

    return step


def hugging_face(recipe: PretrainRecipe, images: Tensor) -> Callable[[], None]:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    encoder = network_of(recipe).build_autoencoder().encoder
    config = ViTMAEConfig(
        hidden_size=encoder.embed_dim,
        num_hidden_layers=len(encoder.blocks),
        num_attention_heads=encoder.blocks[0].attn.num_heads,
        intermediate_size=4 * encoder.embed_dim,
        image_size=recipe.image_size.height,
        patch_size=encoder.patch_embed.patch_size[0],
        num_channels=recipe.channels,
        norm_pix_loss=recipe.normalise_target,
        mask_ratio=recipe.mask_ratio,
        decoder_hidden_size=recipe.decoder_width,
        decoder_num_hidden_layers=recipe.decoder_depth,
        decoder_num_attention_heads=recipe.decoder_heads,
        decoder_intermediate_size=4 * recipe.decoder_width,
    )
    model = ViTMAEForPreTraining(config).to(images.device)

    def step() -> None:
        model(images).loss.backward()
        model.zero_grad()

    return step


if __name__ == "__main__":
    main()
