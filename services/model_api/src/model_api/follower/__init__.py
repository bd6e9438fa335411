"""Follows the registry, decides which versions serve, and tells the workers."""
