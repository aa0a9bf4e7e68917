"""Tests of generation.quality."""
