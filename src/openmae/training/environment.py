"""What a run was made with: environment.json of its folder."""

import os
import platform
import sys
import time
from importlib import metadata
from typing import Any

import torch

PACKAGES = ("openmae", "torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow", "pyarrow", "safetensors")


def describe_environment(seed: int) -> dict[str, Any]:
    """Versions, hardware, command line and seed, which are needed to repeat a run."""
    return {
        "command": sys.argv,
        "seed": seed,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerators": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }
