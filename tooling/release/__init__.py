"""A built release on disk: what it holds, and how two differ."""
