"""Alarms with advice: what the figures and the first images of a run say is wrong, and what to do about it."""
