"""Tests of tooling; those of tooling.hub lie in tests.hub."""
