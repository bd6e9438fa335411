"""Confines code that came with a model, with bubblewrap."""
