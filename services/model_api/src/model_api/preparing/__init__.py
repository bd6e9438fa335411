"""What prepares a version: downloads it, tries it, compiles it, and puts it into a folder."""
