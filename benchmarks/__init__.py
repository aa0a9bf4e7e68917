"""Measurements, and comparisons with stored vectors. Run from the repository's root: `python -m benchmarks.parity`.

    parity          each network beside the test vectors of its published implementation
    quality         the default generators' fakes, by an independent face encoder and 68 landmarks
    speed           this project's code beside the usual formulation of the same work
    filled_weights  repeatable weights for a network without its published checkpoint

No test times anything.
"""
