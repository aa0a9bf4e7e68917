"""Marks in media files: a signed C2PA manifest and the implicit label of GB 45438-2025.

In: a finished file, its record, the workspace's keys. Out: the same pictures in a marked file; or what a file's marks
state, and whether they are valid.
"""
