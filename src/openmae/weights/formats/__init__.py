"""Layouts of weights files, a module for each.

A module has the table of our names and theirs, recognises the layout (`recognises`), turns a file of it into
`Weights` (`weights_from`), and turns `Weights` into its tensors (`tensors_to`). `weights.reading` asks them in turn.
"""
