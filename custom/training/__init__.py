"""What both trainings share: slices as a dataset, progress, checkpoints, weight averages, images, summary."""
