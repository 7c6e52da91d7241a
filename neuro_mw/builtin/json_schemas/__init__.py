"""JSON and JSON schemas for the built-ins: read strictly, run with an end."""
