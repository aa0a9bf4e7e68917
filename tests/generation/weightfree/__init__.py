"""Tests of generation.generators.weightfree and what it measures."""
