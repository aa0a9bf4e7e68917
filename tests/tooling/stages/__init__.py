"""Tests of tooling.stages."""
