"""What answers HTTP: a supervisor and its worker processes."""
