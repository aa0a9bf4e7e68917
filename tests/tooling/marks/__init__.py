"""Tests of tooling.marks."""
