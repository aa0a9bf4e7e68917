"""Tests of generation.weights and generation.generators.conversion."""
