"""Serves the champions of an MLflow model registry over HTTP.

The registry's alias says which version of a model answers. A moved alias is followed within
seconds; a version that cannot be loaded, or fails on its own input example, never answers.
"""
