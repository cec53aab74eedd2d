"""Metrics of segmentation and synthesis, and the files that they are written to."""
