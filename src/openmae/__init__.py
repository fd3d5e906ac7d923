"""OpenMAE."""
