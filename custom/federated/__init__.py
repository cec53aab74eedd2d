"""Training across hospitals with NVFlare."""
