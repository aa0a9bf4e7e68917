"""Tests of tooling.views."""
