"""Hypothesis-driven inputs for the readers."""
