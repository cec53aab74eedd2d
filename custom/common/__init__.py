"""What every other room uses: errors, files that are whole or absent, provenance, weights."""
