"""Programs in which mypy, strict, and pyright, strict, find nothing, and which run."""
