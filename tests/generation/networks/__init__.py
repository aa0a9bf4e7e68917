"""Tests of the generators that are published networks."""
