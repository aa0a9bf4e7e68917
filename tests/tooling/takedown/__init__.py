"""Tests of tooling.takedown."""
