"""Used by all other packages: errors, atomic file writes, provenance, loading of weights."""
