"""Tests, in folders as the source; `data` holds stored vectors."""
