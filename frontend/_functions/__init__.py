"""Public functions, by subject."""
