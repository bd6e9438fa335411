"""Shared by all processes: logs, settings, and the state that the follower writes."""
