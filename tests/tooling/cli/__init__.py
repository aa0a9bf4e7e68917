"""Tests of tooling.cli."""
