"""From a study on its own grid to the slices that the networks process, and the residual map."""
