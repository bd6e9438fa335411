"""Models: their requests, their engines, their answers, and their folders on the disk."""
