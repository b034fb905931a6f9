"""Sweeps: many runs of one job, over a space of its settings, scheduled by Ray Tune."""
