"""The names of what a run folder holds."""

RECIPE, DATA, ENVIRONMENT, METRICS, BAD_IMAGES, REWINDS, ALARMS, LOG, RESULTS, ENCODER = (
    "recipe.yaml",
    "data.parquet",
    "environment.json",
    "metrics.jsonl",
    "bad_images.jsonl",
    "rewinds.jsonl",
    "alarms.jsonl",
    "log.txt",
    "results.json",
    "encoder.safetensors",
)
CHECKPOINTS = "checkpoints"
SAMPLES = "samples"
