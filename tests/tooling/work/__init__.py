"""Tests of tooling.work."""
