"""Tests of generation.generators.diffusers."""
