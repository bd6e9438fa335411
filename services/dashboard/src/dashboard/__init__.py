"""Lastro's dashboard: registered models, experiments and the serving versions."""
