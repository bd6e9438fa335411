"""What an environment costs a month, next to Amazon's managed services for the same work."""
