"""Converts published weights: published files in, a folder for `from_pretrained` with its provenance out, checked."""
