"""Video files: read, written, and brought to one shape."""
