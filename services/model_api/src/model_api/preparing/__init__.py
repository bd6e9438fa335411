"""Prepares a version: downloads, tries and compiles it, and puts it into a folder."""
