"""Tests of tooling.hub with the unmodified clients."""
