"""What a sample's name says."""

from __future__ import annotations

from homologous_deepfake import SUBSETS


def people_of(sample_id: str) -> tuple[str, ...]:
    """The identities that a sample shows: target, and source of a pair; nobody for a generated image."""
    subset = SUBSETS.get(sample_id.partition("/")[0])
    is_video = subset is not None and subset.media == "video"
    return tuple(sample_id.rpartition("/")[2].split("_")) if is_video else ()
