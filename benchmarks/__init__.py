"""Measurements, and comparisons with stored vectors. Run from the repository's root: `python -m benchmarks.speed`.

    parity          each network beside the test vectors of its published implementation
    quality         the default generators' fakes, by an independent face encoder and 68 landmarks
    speed           this project's code beside the usual formulation of the same work (`make bench`), and bytes sent
    memory          peak memory of commands at two sizes of a workspace
    gpu             one command for a CUDA machine: parity, speed, whole clips, batches, tests marked `cuda`
    results         what they printed, with machine and versions
    measuring       alternation, goals, tables, processes of their own; counted_hub: a Hub that counts its traffic
    filled_weights  repeatable weights for a network without its published checkpoint

No test times anything.
"""
