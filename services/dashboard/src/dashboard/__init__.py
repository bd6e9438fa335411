"""Lastro's dashboard: registered models, experiments, and what serves right now."""
