"""Tests of tooling.stages.verify."""
