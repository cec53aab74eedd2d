"""From a study on its own grid to the slices that the networks see, and the residual."""
