"""Speed of this project's code beside the usual formulation of the same work, both measured in turn in one run.

`python -m benchmarks.speed [NAMES ...]`. A module has `measure(setup)`, which yields lines of the table: faces,
decoding (also from a Hub), stages (build, ingest, verify), push (bytes), swap, the four published networks, and engines
(local and Ray). What they measure on is made by inputs and noise.
"""
