"""What the processes share: logs, settings, the state that the follower writes for the workers."""
