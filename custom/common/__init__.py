"""Shared by all rooms: errors, atomic file writes, provenance, loading of weights."""
