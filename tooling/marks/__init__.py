"""Marks in media files: what is said of a file, and signing it."""
