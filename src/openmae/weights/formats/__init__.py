"""Layouts of weights files, a module for each: from tensors and metadata to `Weights`.

A module recognises its layout, and turns a file into tensors under timm's names with the network that they are for.
`weights.reading` tries the modules in turn.
"""
