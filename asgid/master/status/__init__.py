"""The state of the service as pages and metrics."""
