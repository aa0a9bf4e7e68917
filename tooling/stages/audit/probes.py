"""The table of probes: trivial features of a file that might separate real from fake without looking at a face."""

from __future__ import annotations

from dataclasses import dataclass

Measured = dict[str, float | str]
"""What a probe measures of one file, by name: numbers, or texts that are equal or not."""


@dataclass(frozen=True)
class Probe:
    """One group of features.

    Attributes:
        name: in audit.json and on the card.
        is_pixel: follows from what the pictures show, where fakes may differ; all others must not separate fakes.
        is_scale_free: can be compared between an image and a video's frame of another size and compression.
        remedy: what to do if it separates real from fake.
    """

    name: str
    is_pixel: bool
    is_scale_free: bool
    remedy: str


_SAME_WRITER = "write real and fake files with the one encoder (generation.media.writer) and the same settings"

PROBES = (
    Probe("file_size", False, False, f"{_SAME_WRITER}, which pads every file to one size"),
    Probe("bitrate", False, False, f"{_SAME_WRITER}, which keeps to one bitrate"),
    Probe("gop", False, False, f"{_SAME_WRITER}: key frames and B frames at fixed places"),
    Probe("codec", False, False, _SAME_WRITER),
    Probe("atoms", False, False, f"{_SAME_WRITER}; write the container's parts in one order and size"),
    Probe("headers", False, False, f"{_SAME_WRITER}; write the same brands, handlers and times"),
    Probe("metadata", False, False, "remove the text fields that only one kind has; mark files with `tooling` alone"),
    Probe("duration", False, False, "cut all clips of the subset to one length"),
    Probe("num_frames", False, False, "cut all clips of the subset to one number of frames"),
    Probe("dimensions", False, False, "make all clips of the subset of one width and height"),
    Probe("box_jitter", False, False, "give fakes the boxes of their targets: run `tooling faces` and build again"),
    Probe("frame_sizes", True, False, ""),  # not decoded, but an encoder spends bytes by what a frame shows
    Probe("mean_colour", True, True, ""),
    Probe("border_pixels", True, True, ""),
    Probe("sharpness", True, False, ""),
    Probe("noise", True, False, ""),
    Probe("jpeg_grid", True, False, ""),
    Probe("blockiness", True, False, ""),
    Probe("dct", True, False, ""),
)
