"""Tests of tooling.actors."""
