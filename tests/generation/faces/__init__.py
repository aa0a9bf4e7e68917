"""Tests of generation.faces."""
