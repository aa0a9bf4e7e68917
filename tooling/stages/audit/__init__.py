"""audit: every file in; out comes how well simple probes tell real from fake."""
