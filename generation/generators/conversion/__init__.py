"""Published weights in, a folder for `from_pretrained` with its provenance out."""
