"""Studies on disk: found, checked and loaded."""
