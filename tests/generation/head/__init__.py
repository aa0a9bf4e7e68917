"""Tests of generation.head."""
