"""Tests of generation.crops."""
