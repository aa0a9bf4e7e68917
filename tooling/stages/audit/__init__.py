"""audit: whether trivial features of a file separate real from fake.

In: every file of the workspace. Out: audit.json, the area under the ROC curve of each probe on each subset of fakes.

    run             measures every file, tests every probe, and writes audit.json
    probes          the table of probes
    containers      what a video file shows without being decoded
    pixels          what a few decoded frames show
    tracks          how much the face boxes tremble
    separability    how well a probe's numbers separate two groups of files
"""
