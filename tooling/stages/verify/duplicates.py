"""Content that is there twice: the same anywhere, a copy that was encoded again, or another person's clip.

Within a split, a clip, its crop and its fakes are alike by design; across splits nothing may be, nor may two clips
anywhere. People of one set have one background, so films are compared by the mean of the aligned face, and by whole
pictures only where there is no track. What is alike by a coarse pattern is then compared pixel by pixel
(`generation.quality.copies`). Fakes of one target are compared by what each of them changes.

Measured on seven real people, also before one background, and on rendered ones: 28 of all kinds, and 14 of one dress,
hair, skin and background, who share more than people do. A copy is encoded as JPEG of quality 30, brighter, cropped by
up to 4 % at each edge, and has a track of its own with errors of 1.5 % of the distance of the eyes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from generation.arrays import Grey
from generation.quality.copies import face_distance, largest_change, picture_distance
from generation.quality.descriptor import Descriptor, near_pairs, pattern_of
from homologous_deepfake import SPLIT_FOLDS, SUBSETS, people_of
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.descriptors import mean_picture_distance, unpack, unpack_mean_picture
from tooling.stages.verify.meters.views import unpack_views
from tooling.workspace.records import FileRecord, natural_key
from tooling.workspace.verification_file import Finding

# Copies: at most 0.011, 0.025 if a tenth of the film is missing. People: 0.032 and more where they share all of the
# above, else rendered ones 0.12, real ones 0.28.
LARGEST_FACE_DISTANCE = 0.025
# Copies: at most 0.13. People before one background: 0.18 and more, real ones 1.05.
LARGEST_PICTURE_DISTANCE = 0.16
SMALLEST_LIKENESS = 0.85  # correlation of coarse patterns; of copies 0.93 and more, of real people's faces up to 0.7
SMALLEST_SHARE = 0.5  # of a file's pictures that must be near-duplicates of another's
# Fakes of one target, in levels: encoded again with a CRF of 30 they differ by 2.6, with 36 by 4.8; others by 8.5.
LARGEST_DIFFERENCE = 5.5
SMALLEST_CHANGE = 2.0  # of a fake from its target, in multiples of its difference from the copy
MUCH_NEARER = 0.5  # another clip's mean picture is nearer by this factor

Checks = Mapping[str, FileCheck]


def check_duplicates(checks: Checks, splits: Mapping[str, str]) -> list[Finding]:
    """Files that show the same anywhere, copies in different splits, of another clip, and of a fake of one target.

    Args:
        checks: path -> check.
        splits: path -> split; "" or "crossing" if it is in none of the three.
    """
    order = [*SPLIT_FOLDS]
    paths = sorted(checks, key=natural_key)
    found = _same(checks, paths)
    different = [path for path in paths if path not in found and checks[path].content]
    members = {split: [path for path in different if splits.get(path) == split] for split in order}
    clips = [path for path in different if path.startswith("raw_video/")]
    clips.sort(key=lambda path: order.index(splits[path]) if splits.get(path) in order else len(order))
    across = (_across(checks, members[one], members[other]) for one, other in itertools.combinations(order, 2))
    for other, path, what in itertools.chain(_clips_twice(checks, clips), *across):
        where = f" in the split {splits[other]}" if splits.get(other) in order else ""
        found.setdefault(path, f"shows the same {what} as {other}{where}; take one of them out")
    for path, other in _copied_fakes(checks, different):
        found.setdefault(path, f"shows the same film as {other}; take the copy out, or make both again")
    return [Finding("error", "content", path, message) for path, message in found.items()]


def _same(checks: Checks, paths: Sequence[str]) -> dict[str, str]:
    """Path -> message."""
    seen: dict[str, str] = {}
    found = {}
    for path in paths:
        content = checks[path].content
        if content and content in seen:
            found[path] = f"shows the same as {seen[content]}; make it again"
        seen.setdefault(content, path)
    return found


def _clips_twice(checks: Checks, clips: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Two clips of one film, and what tells so: the whole picture also where a track is not that of its clip."""
    places = {path: number for number, path in enumerate(clips)}
    for what, pictures, is_copy in (
        ("face", _faces(checks, clips), _is_one_face),
        ("film", _films(checks, clips), _is_one_picture),
    ):
        for one, other in _alike(clips, clips, pictures):
            if places[one] < places[other] and is_copy(pictures[one], pictures[other]):
                yield one, other, what


def _across(checks: Checks, one: Sequence[str], other: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Files of two splits that show one film, by the face if both are tracked, else by the whole picture."""
    faces, films = _faces(checks, [*one, *other]), _films(checks, [*one, *other])
    for first, second in _alike(one, other, faces):
        if _is_one_face(faces[first], faces[second]):
            yield first, second, "face"
    images, videos = (
        [[path for path in paths if path in films and _is_image(path) is is_image] for paths in (one, other)]
        for is_image in (True, False)
    )
    alike = itertools.chain(
        _alike(videos[0], videos[1], films, without=set(faces)),
        _near_pictures(checks, images[0], [*images[1], *videos[1]]),
        _near_pictures(checks, videos[0], images[1]),
    )
    for first, second in alike:
        if _is_one_picture(films[first], films[second]):
            yield first, second, "film"


def _is_image(path: str) -> bool:
    return SUBSETS[path.partition("/")[0]].media == "image"


def _films(checks: Checks, paths: Sequence[str]) -> dict[str, Grey]:
    return {path: unpack_mean_picture(checks[path].mean_picture) for path in paths if checks[path].mean_picture}


def _faces(checks: Checks, paths: Sequence[str]) -> dict[str, Grey]:
    return {path: unpack_views(checks[path].face)[0] for path in paths if checks[path].face}


def _is_one_face(first: Grey, second: Grey) -> bool:
    return face_distance(first, second) <= LARGEST_FACE_DISTANCE


def _is_one_picture(first: Grey, second: Grey) -> bool:
    return picture_distance(first, second) <= LARGEST_PICTURE_DISTANCE


def _alike(
    firsts: Sequence[str], seconds: Sequence[str], pictures: Mapping[str, Grey], without: Set[str] = frozenset()
) -> Iterator[tuple[str, str]]:
    """Of each target's files among the first, the one that is most like each of the second, if it is like it at all.

    Args:
        firsts, seconds: paths; those without a picture are left out.
        pictures: path -> grey picture.
        without: paths of which no two are compared.
    """
    firsts, seconds = ([path for path in paths if path in pictures] for paths in (firsts, seconds))
    if not firsts or not seconds:
        return
    ones, others = (np.stack([pattern_of(pictures[path]) for path in paths]) for paths in (firsts, seconds))
    likeness = ones @ others.T
    left_out = [np.array([path in without for path in paths]) for paths in (firsts, seconds)]
    likeness[np.outer(*left_out)] = 0
    for rows in _by_target(firsts).values():
        block = likeness[rows]
        nearest = block.argmax(0)
        for column in np.flatnonzero(block.max(0) >= SMALLEST_LIKENESS).tolist():
            yield firsts[rows[nearest[column]]], seconds[column]


def _near_pictures(checks: Checks, firsts: Sequence[str], seconds: Sequence[str]) -> Iterator[tuple[str, str]]:
    """As `_alike`, by the descriptors of whole pictures: near-duplicates in half of either file's pictures."""
    (ones, owners), (others, other_owners) = (_descriptors(checks, paths) for paths in (firsts, seconds))
    rows, columns, distances = near_pairs(ones, others)
    if not len(rows):
        return
    pairs, of_pair = np.unique(owners[rows] * len(seconds) + other_owners[columns], return_inverse=True)
    nearest = np.full(len(pairs), np.inf, np.float32)
    np.minimum.at(nearest, of_pair, distances)
    shares = [_num_different(of_pair, part, len(pairs)) for part in (rows, columns)]
    numbers = np.divmod(pairs, len(seconds))
    fewest = np.minimum(np.bincount(owners)[numbers[0]], np.bincount(other_owners)[numbers[1]])
    is_near = np.minimum(*shares) >= SMALLEST_SHARE * fewest
    targets = {number: target for target, found in _by_target(firsts).items() for number in found}
    best: dict[tuple[str, int], tuple[float, int]] = {}
    for first, second, away in zip(*(part[is_near].tolist() for part in (*numbers, nearest)), strict=True):
        key = targets[first], second
        best[key] = min(best.get(key, (np.inf, 0)), (away, first))
    for (_, second), (_, first) in best.items():
        yield firsts[first], seconds[second]


def _num_different(groups: NDArray[np.int64], values: NDArray[np.int64], num_groups: int) -> NDArray[np.int64]:
    """How many different values each group has."""
    return np.bincount(np.unique(np.stack([groups, values]), axis=1)[0], minlength=num_groups)


def _descriptors(checks: Checks, paths: Sequence[str]) -> tuple[list[Descriptor], NDArray[np.int64]]:
    """Descriptors of all pictures of files, and the number of the file of each."""
    found = [unpack(checks[path].descriptors) for path in paths]
    owners = np.repeat(np.arange(len(paths)), [len(some) for some in found])
    return list(itertools.chain(*found)), owners


def _by_target(paths: Sequence[str]) -> dict[str, list[int]]:
    """Target, or the path of an image -> numbers of its files."""
    numbers: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        people = people_of(path.rpartition(".")[0])
        numbers.setdefault(people[0] if people else path, []).append(number)
    return numbers


def _copied_fakes(checks: Checks, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Fakes of one target that differ from it and not from each other; both of a pair, as either may be the copy."""
    fakes = [path for path in paths if checks[path].views and SUBSETS[path.partition("/")[0]].method != "real"]
    for target, numbers in _by_target(fakes).items():
        clip = checks.get(f"raw_video/{target}.mp4")
        if clip is None:
            continue
        original = unpack_views(clip.views)
        views = {fakes[number]: unpack_views(checks[fakes[number]].views) for number in numbers}
        changes = {path: largest_change(view, original) for path, view in views.items() if view.shape == original.shape}
        for one, other in itertools.combinations(changes, 2):
            away = largest_change(views[one], views[other])
            if away <= LARGEST_DIFFERENCE and min(changes[one], changes[other]) >= SMALLEST_CHANGE * away:
                yield from ((one, other), (other, one))


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
