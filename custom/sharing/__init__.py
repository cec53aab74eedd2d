"""Bundles for others: packed, checked, signed and verified."""
