"""Type hints, JSON Schema and the conversion of values."""
