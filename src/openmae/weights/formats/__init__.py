"""Layouts of weights files, a module for each: from tensors and metadata to `Weights`.

A module names the layout, recognises it, and turns it into tensors under timm's names with the network that they are
for. `weights.reading` asks them in turn.
"""
