"""Tests of tooling.workspace."""
