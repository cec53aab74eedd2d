"""The chain without this project's Python."""
