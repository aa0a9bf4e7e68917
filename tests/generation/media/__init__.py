"""Tests of generation.media."""
