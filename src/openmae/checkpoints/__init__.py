"""Checkpoints, written atomically and read verified; the lock of a run folder, and the names in it."""
