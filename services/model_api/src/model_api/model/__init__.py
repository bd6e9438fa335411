"""What a model is: its requests, its engines, its answers, and its folder on the disk."""
