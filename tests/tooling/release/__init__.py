"""Tests of tooling.release."""
