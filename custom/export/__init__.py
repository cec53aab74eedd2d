"""Export of the whole pipeline, without this project's Python."""
