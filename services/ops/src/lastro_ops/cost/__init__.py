"""The monthly cost of an environment, next to Amazon's managed services for the same work."""
