"""Measurements, and comparisons with stored vectors. Nothing here is timed by a test."""
