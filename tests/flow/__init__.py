"""Tests of whole runs: the commands one after another, interruptions, loading what they made."""
