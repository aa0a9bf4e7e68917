"""Content that is there twice: the same anywhere, nearly the same in different splits, or another person's clip.

Within a split, a clip, its crop and its fakes are alike by design; across splits nothing may be. Perceptual hashes of
all pictures are compared first, by counting bits; `generation.quality.descriptor` then compares the few pairs that are
left. Clips of two rendered people are at a distance of 2.0 and more; near-duplicates are at 1 and less.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from generation.quality.descriptor import LARGEST_HASH_DISTANCE, Descriptor, find_near_duplicate
from homologous_deepfake import SPLIT_FOLDS, people_of
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.descriptors import mean_picture_distance, unpack
from tooling.workspace.records import FileRecord, natural_key
from tooling.workspace.verification_file import Finding

SMALLEST_SHARE = 0.5  # of a clip's pictures that must be near-duplicates of another's
ROWS = 2048  # hashes compared at a time with all others
MUCH_NEARER = 0.5  # another clip's mean picture is nearer by this factor

Split = tuple[NDArray[np.uint64], NDArray[np.int64], list[Descriptor]]
"""Hashes (N,), number of the file of each, descriptors."""


def check_duplicates(checks: Mapping[str, FileCheck], splits: Mapping[str, str]) -> list[Finding]:
    """Files that show the same anywhere, and nearly the same in different splits.

    Args:
        checks: path -> check.
        splits: path -> split; "" or "crossing" if it is in none of the three.
    """
    paths = sorted(checks, key=natural_key)
    findings = _same(checks, paths)
    same = {finding.path for finding in findings}
    members = {split: [path for path in paths if splits.get(path) == split] for split in SPLIT_FOLDS}
    pools = {split: _pool(checks, found) for split, found in members.items()}
    for one, other in itertools.combinations(SPLIT_FOLDS, 2):
        for left, right in _near(pools[one], pools[other]):
            path, also = members[other][right], members[one][left]
            if path not in same:
                message = f"shows nearly the same as {also} in the split {one}; take one of them out"
                findings.append(Finding("error", "content", path, message))
    return findings


def _same(checks: Mapping[str, FileCheck], paths: Sequence[str]) -> list[Finding]:
    seen: dict[str, str] = {}
    findings = []
    for path in paths:
        content = checks[path].content
        if content and content in seen:
            findings.append(Finding("error", "content", path, f"shows the same as {seen[content]}; make it again"))
        seen.setdefault(content, path)
    return findings


def _pool(checks: Mapping[str, FileCheck], paths: Sequence[str]) -> Split:
    descriptors, owners = [], []
    for number, path in enumerate(paths):
        found = unpack(checks[path].descriptors)
        descriptors += found
        owners += [number] * len(found)
    bits = np.stack([one.bits for one in descriptors]) if descriptors else np.zeros((0, 8), np.uint8)
    return np.ascontiguousarray(bits).view(np.uint64).ravel(), np.array(owners, np.int64), descriptors


def _near(first: Split, second: Split) -> list[tuple[int, int]]:
    """Pairs of files of two pools of which enough pictures are near-duplicates."""
    (hashes, owners, descriptors), (others, other_owners, other_descriptors) = first, second
    votes: Counter[tuple[int, int]] = Counter()
    for start in range(0, len(others), ROWS):
        block = others[start : start + ROWS]
        distances = np.bitwise_count(block[:, None] ^ hashes[None])
        rows, columns = np.nonzero(distances <= LARGEST_HASH_DISTANCE)
        for row in np.unique(rows):
            numbers = columns[rows == row]
            nearest = find_near_duplicate(other_descriptors[start + row], [descriptors[number] for number in numbers])
            if nearest is not None:
                votes[int(owners[numbers[nearest]]), int(other_owners[start + row])] += 1
    num_pictures = np.bincount(other_owners)
    return sorted(pair for pair, num in votes.items() if num >= SMALLEST_SHARE * num_pictures[pair[1]])


def name_real_clips(checks: Mapping[str, FileCheck], records: Mapping[str, FileRecord]) -> list[Finding]:
    """Fakes and crops that differ from their target all over, if they show another person's clip."""
    clips = {path: found for path, found in checks.items() if path.startswith("raw_video/") and found.mean_picture}
    findings = []
    for path, found in checks.items():
        if not found.is_far or not found.mean_picture or path not in records:
            continue
        own = f"raw_video/{people_of(records[path].sample_id)[0]}.mp4"
        distances = {
            clip: mean_picture_distance(found.mean_picture, other.mean_picture) for clip, other in clips.items()
        }
        nearest = min(distances, key=lambda clip: (distances[clip], natural_key(clip)), default=own)
        if nearest != own and distances[nearest] < MUCH_NEARER * distances.get(own, np.inf):
            findings.append(
                Finding("error", "content", path, f"shows {nearest}, not {own}: it is named wrongly; make both again")
            )
    return findings
