"""A built release on disk: its Parquet shards, checksums, and list of changes.

In: a folder, or a repository and revision at the Hub. Out: its configs, splits and rows, the differences between two
releases, and shards written or rewritten.
"""
