"""Metrics of segmentation and synthesis, and their output files."""
