"""Shared by both trainings: slice dataset, progress bars, checkpoints, EMA, TensorBoard images, summary."""
