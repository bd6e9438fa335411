"""The HTTP server: a supervisor and its worker processes."""
