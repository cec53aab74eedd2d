"""From a scanner's images to a study as the networks know it, and back: registration, brain mask, atlas, checks."""
