"""The synthesizer: its network, its training batch and loss, its sampler and its inferer."""
