"""One loop for pre-training, linear evaluation and fine-tuning, and what it stands on."""
