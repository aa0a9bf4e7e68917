"""Tests of tooling.stages.generate."""
