"""How good the features are: kNN, linear evaluation, fine-tuning."""
