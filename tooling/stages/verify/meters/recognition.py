"""Whose face a file shows: the embedding of each, and the comparison of every fake and crop with all people's clips.

Measured with dlib's network on seven real people, whose clips are 0.49 to 0.91 apart: swaps are 0.23 to 0.48 from
their source and 0.46 to 0.82 from their target, driven clips 0.10 to 0.31 and edits 0.10 to 0.33 from their person, who
was the nearest to every one of them; 33 of 35 swaps with another source's name were found, and all driven clips and
edits with another person's. Rendered people are 0.24 to 0.41 apart.

Where a swap keeps the target's glasses or takes off the source's, the network sees them as a part of the face. There
a target that is nearer than the source is a note, any other person an error: on eight such pairs of real people the
source was the nearest, and all 32 with another source's name were found. Where the network cannot tell the release's
people apart, where a twentieth of all pairs is nearer than a generated image may be to a person (rendered ones), it
cannot tell whose face a swap shows either: of 100 rendered people somebody was nearer to 21 of 100 swaps than their
source. There it is a note.

A generated image shows nobody. It is compared with everybody, unless the network cannot tell them apart.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from generation.arrays import Floats, Frame, Landmarks
from generation.faces.appearance import turn_of
from generation.faces.identity import DlibIdentity, FaceEncoder, OnnxIdentity, mean_embedding
from generation.faces.track import FaceTrack
from homologous_deepfake import SUBSETS, people_of
from tooling.stages.verify.file_check import FileCheck, is_image, is_imported
from tooling.stages.verify.meters.meter import DecodedFrame, Meter
from tooling.stages.verify.state import EncoderChoice
from tooling.workspace.records import FileRecord, natural_key
from tooling.workspace.verification_file import Finding

NUM_EMBEDDED = 3  # frames of a file
ALIKE_SHARE = 0.05  # of all pairs of people, that may be nearer to each other than an image may be to a person


class IdentityMeter(Meter):
    """Embeds the face of a video, by the track of its target's, in a few frames in which that is turned least.

    Args:
        check: takes the embedding.
        track: of the target's face.
        landmarks: float32 (T, 5, 2), its landmarks in px of the video.
        encoder: that embeds.
    """

    def __init__(self, check: FileCheck, track: FaceTrack, landmarks: Landmarks, encoder: EncoderChoice) -> None:
        self.check, self._encoder, self._landmarks = check, encoder, landmarks
        self._numbers = frontal_frames(track)
        self._crops: list[Frame] = []

    def wants(self, number: int) -> bool:
        """The frames of `frontal_frames`."""
        return number in self._numbers

    def add(self, frame: DecodedFrame, clip: DecodedFrame | None) -> None:
        """Takes one of these frames."""
        self._crops.append(encoder_class(self._encoder).cut(frame.rgb, self._landmarks[frame.number]))

    def finish(self) -> None:
        """Leaves the embedding as text."""
        embed(self.check, self._crops, self._encoder)


def embed(check: FileCheck, crops: list[Frame], encoder: EncoderChoice) -> None:
    """Leaves the mean embedding of crops, as the encoder cuts them, in a check as text; nothing without any."""
    mean = mean_embedding(load_encoder(encoder)(np.stack(crops))) if crops else None
    if mean is not None:
        check.identity = base64.b64encode(mean.astype(np.float16).tobytes()).decode("ascii")


def frontal_frames(track: FaceTrack) -> frozenset[int]:
    """Numbers of the frames that are embedded: of each part of the clip, that in which the face is turned least."""
    seen = np.flatnonzero(track.is_detected)
    parts = [part for part in np.array_split(seen, NUM_EMBEDDED) if len(part)]
    return frozenset(int(min(part, key=lambda number: turn_of(track.landmarks[number]))) for part in parts)


def check_identities(
    checks: Mapping[str, FileCheck], records: Mapping[str, FileRecord], encoder: EncoderChoice
) -> list[Finding]:
    """Fakes and crops that show another person's face than they should, and images that show somebody's.

    Their distances go to their measurements.
    """
    kind = encoder_class(encoder)
    people = {
        people_of(records[path].sample_id)[0]: _embedding(found)
        for path, found in checks.items()
        if path.startswith("raw_video/") and found.identity and path in records
    }
    smallest = kind.limits.smallest_invented
    of_people = np.stack([*people.values()]) if people else np.zeros((0, 1), np.float32)
    pairs = [away for at in range(len(people)) for away in kind.distance(of_people[at], of_people[at + 1 :]).tolist()]
    are_told_apart = bool(pairs) and float(np.quantile(pairs, ALIKE_SHARE)) >= smallest
    findings = []
    for path, found in checks.items():
        record = records.get(path)
        if record is None or not found.identity or record.subset == "raw_video":
            continue
        own = _embedding(found)
        distances = dict(zip(people, kind.distance(own, of_people).tolist(), strict=True))
        if is_image(record):
            if distances and are_told_apart:
                findings += _find_person(record, found, distances, smallest)
            continue
        names = people_of(record.sample_id)
        for name, person in zip(("target_distance", "source_distance"), names, strict=False):
            if person in distances:
                found.measurements[name] = round(distances[person], 4)
        shown = names[1] if SUBSETS[record.subset].method == "face_swap" else names[0]
        if shown not in distances:
            continue
        is_swap = shown != names[0]
        look_alike = is_swap and not are_told_apart
        of_target = distances.pop(names[0], np.inf) if look_alike or (is_swap and record.has_glasses) else np.inf
        if finding := _compare(record, shown, distances, kind, look_alike=look_alike):
            findings.append(finding)
        elif of_target < distances[shown] - kind.limits.clear_margin:
            message = (
                f"its face is nearer to that of its target (distance {of_target:.2f}) than to that of its source "
                f"({distances[shown]:.2f}); look at all three"
            )
            findings.append(Finding("note", "content", record.path, message))
    return findings


def _compare(
    record: FileRecord, shown: str, distances: Mapping[str, float], kind: type[FaceEncoder], *, look_alike: bool
) -> Finding | None:
    own, limits = distances[shown], kind.limits
    nearest = min(distances, key=lambda person: (distances[person], natural_key(person)))
    if distances[nearest] < own - limits.clear_margin:
        if look_alike:
            message = (
                f"its face is nearer to that of raw_video/{nearest}.mp4 (distance {distances[nearest]:.2f}) than to "
                f"that of raw_video/{shown}.mp4 ({own:.2f}), where people look alike to the network; look at all three"
            )
            return Finding("note", "content", record.path, message)
        again = "run `tooling faces` again" if record.subset == "face_video" else "make it again"
        message = (
            f"shows the face of raw_video/{nearest}.mp4 (distance {distances[nearest]:.2f}), "
            f"not that of raw_video/{shown}.mp4 ({own:.2f}); {again}"
        )
        return Finding("note" if is_imported(record) else "error", "content", record.path, message)
    if own > limits.largest_own:
        message = (
            f"its face is at a distance of {own:.2f} from that of raw_video/{shown}.mp4, which it should show "
            f"(usually at most {limits.largest_own}); look at both"
        )
        return Finding("note", "content", record.path, message)
    return None


def _find_person(
    record: FileRecord, found: FileCheck, distances: Mapping[str, float], smallest: float
) -> list[Finding]:
    """An image that is too near to a person; the distance from the nearest goes to its measurements."""
    nearest = min(distances, key=lambda person: (distances[person], natural_key(person)))
    found.measurements["person_distance"] = round(distances[nearest], 4)
    if distances[nearest] >= smallest:
        return []
    message = (
        f"its face is at a distance of {distances[nearest]:.2f} from that of raw_video/{nearest}.mp4, "
        f"that of nobody is at least {smallest}; make it again, with another seed"
    )
    return [Finding("note" if is_imported(record) else "error", "content", record.path, message)]


def encoder_class(encoder: EncoderChoice) -> type[FaceEncoder]:
    """What compares embeddings, without loading a network."""
    return DlibIdentity if encoder == "dlib" else OnnxIdentity


@lru_cache(maxsize=2)
def load_encoder(encoder: EncoderChoice) -> FaceEncoder:
    """Loads the network, once in a process.

    Raises:
        GenerationError: it is not installed, or the file is not an identity encoder.
    """
    return OnnxIdentity(encoder) if isinstance(encoder, Path) else DlibIdentity()


def _embedding(check: FileCheck) -> Floats:
    return np.frombuffer(base64.b64decode(check.identity), np.float16).astype(np.float32)
