"""The segmenter: its training batch, augmentation, and the synthetic T1ce among its inputs."""
