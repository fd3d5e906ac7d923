"""Weights: found, read, verified, built into networks."""
