"""What tracing is made of. Of these, metrics.py and call.py import opentelemetry; they are loaded where it is there."""
