"""Heads: what turns features into the outputs of a task, trained by gradients or fitted directly."""
