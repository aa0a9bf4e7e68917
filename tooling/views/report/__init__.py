"""The report: one page to open before a release is pushed."""
