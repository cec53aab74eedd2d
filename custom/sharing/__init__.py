"""Packing, checking, signing and verifying of bundles."""
