"""Recipes as version 0.1 stored them, in run folders and in weights files, stay readable."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from openmae.recipes import find_recipe
from openmae.recipes.differences import differences_in_results
from openmae.recipes.saved import from_yaml, to_dict
from openmae.recipes.values import Every, ImageSize

PRETRAIN = """\
stage: pretrain
name: fashion-mnist
follows: openmae
published_top1: null
published_by: null
note: ''
data: bilder/März 2024
labels: null
seed: 0
backbone: vit_tiny_patch16_224
image_size: 28x56
patch_size: 4
channels: 1
pixel_type: auto
width: 128
depth: 4
heads: 4
normalize: auto
mean:
- 0.286
std:
- 0.353
decode: exact
hold: true
crop_scale:
- 0.9
- 1.0
flip: 0.5
interpolation: bicubic
epochs: 8
batch_size: 64
accumulate: 1
optimizer: muon
base_lr: 1.0e-05
betas:
- 0.9
- 0.95
momentum: 0.95
weight_decay: 0.05
decay_tokens: true
warmup_epochs: 1
warmup_start: 0.0
min_lr: 0.0
clip_norm: null
ema_decay: 0.9999
precision: auto
compile: false
strategy: auto
devices: 2
nodes: 1
workers: 3
log_every: 20
track: null
save_every: 5min
keep_last: 2
peer_timeout: 20.0
max_bad: 0.01
published_linear_top1: null
weights: runs/first
repeats: 1
mask_ratio: 0.75
normalise_target: false
decoder_width: 64
decoder_depth: 2
decoder_heads: 2
axis_order: column-first
mlp_bias_std: 0.0
"""
LINEAR = """\
stage: linear
name: vit-b16-1600e-linear-mm
follows: mm
published_top1: 67.1
published_by: mm
note: ''
data: hf://owner/name
labels: null
seed: 0
backbone: vit_base_patch16_224
image_size: 224x224
patch_size: null
channels: 3
pixel_type: auto
width: null
depth: null
heads: null
normalize: auto
mean:
- 0.485
- 0.456
- 0.406
std:
- 0.229
- 0.224
- 0.225
decode: fast
hold: true
crop_scale:
- 0.08
- 1.0
flip: 0.5
interpolation: bilinear
epochs: 90
batch_size: 16384
accumulate: 1
optimizer: lars
base_lr: 0.1
betas:
- 0.9
- 0.95
momentum: 0.9
weight_decay: 0.0
decay_tokens: true
warmup_epochs: 10
warmup_start: 0.0001
min_lr: 0.0
clip_norm: null
ema_decay: null
precision: auto
compile: false
strategy: auto
devices: 1
nodes: 1
workers: null
log_every: 20
track: null
save_every: 10min
keep_last: 2
peer_timeout: 20.0
max_bad: 0.01
weights: runs/mine
untrained: false
label_fraction: 1.0
pool: cls
crop_attempts: 10
eval_resize: 256
eval_every: 1
head_std: 0.01
cached: false
scale_bias_lr: true
lr_in_momentum: true
"""
FINETUNE = """\
stage: finetune
name: vit-h14-1600e-finetune-448
follows: fair
published_top1: 87.8
published_by: fair
note: 'batch 1024 and rate 4e-3 are assumed from the 224 recipe; use bf16, not fp16:
  users report NaN'
data: null
labels: labels.csv
seed: 0
backbone: vit_huge_patch14_224
image_size: 448x448
patch_size: null
channels: 3
pixel_type: auto
width: null
depth: null
heads: null
normalize: auto
mean:
- 0.485
- 0.456
- 0.406
std:
- 0.229
- 0.224
- 0.225
decode: fast
hold: true
crop_scale:
- 0.08
- 1.0
flip: 0.5
interpolation: bicubic
epochs: 50
batch_size: 1024
accumulate: 1
optimizer: adamw
base_lr: 0.001
betas:
- 0.9
- 0.999
momentum: 0.9
weight_decay: 0.05
decay_tokens: false
warmup_epochs: 5
warmup_start: 0.0
min_lr: 1.0e-06
clip_norm: null
ema_decay: null
precision: auto
compile: false
strategy: auto
devices: 1
nodes: 1
workers: null
log_every: 20
track: wandb
save_every: 1epochs
keep_last: 2
peer_timeout: 20.0
max_bad: 0.01
weights: null
untrained: false
label_fraction: 1.0
pool: mean
crop_attempts: 10
eval_resize: 512
eval_every: 1
head_std: 2.0e-05
layer_decay: 0.75
min_lr_scaled: true
drop_path: 0.3
rand_augment: null
erasing: 0.25
erasing_clipped: false
mixup: 0.8
cutmix: 1.0
label_smoothing: 0.1
"""


@pytest.mark.parametrize("text", [PRETRAIN, LINEAR, FINETUNE], ids=["pretrain", "linear", "finetune"])
def test_a_recipe_that_an_older_version_stored_reads_back_equal(text: str) -> None:
    stored = yaml.safe_load(text)
    read = to_dict(from_yaml(text))
    assert {name: read[name] for name in stored} == stored


def test_its_values_have_the_declared_types() -> None:
    recipe = from_yaml(PRETRAIN)
    assert (recipe.image_size, recipe.save_every) == (ImageSize(28, 56), Every(5.0, "min"))
    assert (recipe.image_size.height, recipe.save_every.unit) == (28, "min")
    assert (recipe.crop_scale, recipe.base_lr, recipe.data) == ((0.9, 1.0), 1e-5, "bilder/März 2024")


@pytest.mark.parametrize("text", [LINEAR, FINETUNE], ids=["linear", "finetune"])
def test_a_run_that_recorded_the_usual_evaluation_size_continues_with_the_recipe_of_today(text: str) -> None:
    stored = from_yaml(text)
    of_user: dict[str, Any] = {
        name: getattr(stored, name) for name in ("data", "labels", "weights", "rand_augment") if hasattr(stored, name)
    }
    today = replace(find_recipe(stored.name, stored.stage), **of_user)
    assert differences_in_results(stored, today) == []
