"""Tests of tooling.stages.push."""
