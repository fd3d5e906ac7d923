"""What the features are worth: kNN, linear evaluation, fine-tuning."""
