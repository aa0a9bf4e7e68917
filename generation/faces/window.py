"""Which part of a source video becomes the clip: one steady, frontal face, close enough and alone or clearly the main
one, upright, moving, the same person throughout, and no cut.

Faces are detected in a few pictures a second. Those that follow each other in place and size are joined, and those of
like colours (hair, face and clothes) are taken for one person. The subject is who is shown largest, most frontal and
for longest; the other person of an interview is usually shown seldom, small or from behind. Every possible start is
rated; the best part is then decoded in full, and the next best taken if a cut, or a stretch that is bad, frozen or
damaged, turns up in it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from generation.errors import FaceError
from generation.faces.appearance import histogram_distance
from generation.faces.detector import one_thread
from generation.faces.footage import Footage, SeenFace, Viewer
from generation.media.normalise import ClipShape
from generation.media.source import Source

VERSION = 3  # of the choice and of what is written; a change makes every clip again

SAMPLE_SECONDS = 0.5  # between two sampled pictures,
MIN_SAMPLES = 6  # of which a clip has at least so many
WHOLE_SECONDS = 300.0  # sources up to this length are decoded in full at once
MAX_KEY_SAMPLES = 1200  # of a longer source, before its best parts are decoded in full
MAX_ROUNDS = 20
MIN_FACE = 0.1  # of the picture's height
MIN_RIVAL = 0.6  # another face of at least this part of the subject's size spoils a picture
MAX_TURN = 0.4  # of `SeenFace.turn`
MAX_BEYOND = 0.15  # part of a face's side that may lie beyond the picture's border
MIN_GOOD = 0.9  # of the sampled pictures of a clip
SAME_PERSON = 0.45  # largest `histogram_distance` of one person over minutes, in changing light
MAX_STEP, MAX_GROWTH = 0.8, 1.5  # of one face from one sample to the next: in its sides, and in size

GOOD = "good"
FAULTS = {
    "none": "no face",
    "other": "only another person",
    "rival": "two faces of like size",
    "small": "face too small",
    "edge": "face cut off by the border",
    "turned": "face turned away",
}


@dataclass(frozen=True)
class Window:
    """The chosen part: its start in seconds, and what was measured, as recorded."""

    start_seconds: float
    results: dict[str, Any]


def choose_window(source: Source, shape: ClipShape, within: tuple[float, float] | None = None) -> Window:
    """Finds the best part of a source for a clip; the same source gives the same part.

    Args:
        source: from `survey_source`, at least as long as the clip.
        shape: of the clip.
        within: start and end in seconds of what may be chosen from, at least as long as the clip; None takes all.

    Raises:
        FaceError: no part will do; says in which share of the samples what was in the way.
    """
    seconds, aspect = shape.num_frames / shape.fps, shape.width_px / shape.height_px
    first, last = within or (0.0, source.duration_seconds)
    footage = Footage()
    with one_thread():
        sample_seconds = min(SAMPLE_SECONDS, seconds / MIN_SAMPLES)
        viewer = Viewer(source, shape.width_px, shape.height_px, sample_seconds=sample_seconds)
        if last - first <= max(WHOLE_SECONDS, 2 * seconds):
            viewer.decode_in_full(footage, first, max(last, first + seconds))
        else:
            step = min(max(sample_seconds, source.duration_seconds / MAX_KEY_SAMPLES), seconds / MIN_SAMPLES)
            viewer.sample(footage, step, only_keys=source.max_key_seconds <= seconds)
        for _ in range(MAX_ROUNDS):
            subject = name_people(footage)
            states = {at: _state(faces, subject, aspect) for at, faces in footage.faces.items()}
            candidates = _rate(footage, states, subject, seconds, (first, last))
            if not candidates:
                break
            best = max(candidates, key=lambda candidate: (candidate["score"], -candidate["start_seconds"]))
            start = float(best["start_seconds"])
            if footage.is_known(start, start + seconds):
                _refuse_turned(source, viewer.turned(footage, start, start + seconds))
                return Window(start, best | _summary(footage, states, len(candidates)))
            viewer.decode_in_full(footage, start, start + seconds)
        _refuse_turned(source, viewer.turned(footage, first, last))
    raise _refusal(source, seconds, footage, states)


def check_upright(source: Source, shape: ClipShape, start_seconds: float) -> None:
    """Raises FaceError if a part of a source, as long as a clip, clearly shows its face upside down or on its side."""
    with one_thread():
        viewer = Viewer(source, shape.width_px, shape.height_px)
        _refuse_turned(source, viewer.turned(Footage(), start_seconds, start_seconds + shape.num_frames / shape.fps))


def _refuse_turned(source: Source, turned: str) -> None:
    if turned:
        raise FaceError(f"{source.path}: shows its face {turned} and export it again")


def _summary(footage: Footage, states: dict[float, str], num_candidates: int) -> dict[str, Any]:
    people = {face.person for faces in footage.faces.values() for face in faces}
    return {
        "num_candidates": num_candidates,
        "num_people": len(people),
        "num_cuts": len(footage.cuts),
        "frozen_seconds": round(_seconds_of(footage.frozen), 2),
        "damaged_seconds": round(_seconds_of(footage.damaged), 2),
        "num_samples": len(states),
        "samples": _shares(states),
    }


def _refusal(source: Source, seconds: float, footage: Footage, states: dict[float, str]) -> FaceError:
    shares = [
        f"{FAULTS[state]} in {share:.0%} of the pictures" for state, share in _shares(states).items() if state != GOOD
    ]
    if footage.cuts:
        shares.append(f"{len(footage.cuts)} cuts")
    if footage.frozen:
        shares.append(f"the picture is frozen for {_seconds_of(footage.frozen):.1f} s")
    if footage.damaged:
        shares.append(f"damaged for {_seconds_of(footage.damaged):.1f} s")
    found = ", ".join(shares) or "the face is not steady for long enough"
    return FaceError(
        f"{source.path}: no part of {seconds:g} s shows one steady, frontal face ({found}); film again, "
        "or choose start_seconds in identities.csv yourself, without end_seconds"
    )


def _seconds_of(stretches: Sequence[tuple[float, float]]) -> float:
    """Length of stretches that may overlap."""
    total, until = 0.0, -math.inf
    for begin, end in sorted(stretches):
        total, until = total + max(0.0, end - max(begin, until)), max(until, end)
    return total


def _shares(states: dict[float, str]) -> dict[str, float]:
    counts = Counter(states.values()).most_common()
    return {
        state: round(count / len(states), 3) for state, count in sorted(counts, key=lambda pair: (-pair[1], pair[0]))
    }


def name_people(footage: Footage) -> int:
    """Gives each face the number of its person, and returns the subject's number; -1 where nobody is seen."""
    people: list[list[SeenFace]] = []
    for row in sorted(_rows(footage), key=len, reverse=True):
        middle = row[len(row) // 2]
        distances = [histogram_distance(known[len(known) // 2].colours, middle.colours) for known in people]
        person = int(np.argmin(distances)) if distances and min(distances) <= SAME_PERSON else len(people)
        if person == len(people):
            people.append(row)
        for face in row:
            face.person = person
    weights: Counter[int] = Counter()
    for face in (face for faces in footage.faces.values() for face in faces):
        weights[face.person] += round(1e6 * face.side * face.frontality)
    return min(weights, key=lambda person: (-weights[person], person)) if weights else -1


def _rows(footage: Footage) -> list[list[SeenFace]]:
    """Faces that follow each other in place and size from one sample to the next, with no cut between them."""
    rows: list[list[SeenFace]] = []
    open_rows: list[list[SeenFace]] = []
    before = 0.0
    cuts = sorted(footage.cuts)
    for time, faces in footage.faces.items():
        if any(before < cut <= time for cut in cuts):
            open_rows = []
        following = []
        for face in faces:
            near = [row for row in open_rows if _follows(row[-1], face)]
            row = min(near, key=lambda row: float(np.linalg.norm(row[-1].centre - face.centre)), default=None)
            if row is None:
                row = []
                rows.append(row)
            else:
                open_rows = [other for other in open_rows if other is not row]
            row.append(face)
            following.append(row)
        open_rows, before = following, time
    return rows


def _follows(one: SeenFace, other: SeenFace) -> bool:
    size = other.side / max(one.side, 1e-6)
    step = float(np.linalg.norm(one.centre - other.centre)) / max(one.side, 1e-6)
    is_near = step <= MAX_STEP and 1 / MAX_GROWTH <= size <= MAX_GROWTH
    return is_near and histogram_distance(one.colours, other.colours) <= SAME_PERSON


def _state(faces: Sequence[SeenFace], subject: int, aspect: float) -> str:
    """What one sample is good for: GOOD or a key of FAULTS."""
    if not faces:
        return "none"
    own = [face for face in faces if face.person == subject]
    if not own:
        return "other"
    face = max(own, key=lambda face: face.side)
    beyond = max(*(-face.box[:2]), face.box[2] - aspect, face.box[3] - 1)
    if any(other is not face and other.side >= MIN_RIVAL * face.side for other in faces):
        return "rival"
    if face.side < MIN_FACE:
        return "small"
    if beyond > MAX_BEYOND * face.side:
        return "edge"
    return "turned" if face.turn > MAX_TURN else GOOD


def _rate(
    footage: Footage, states: dict[float, str], subject: int, seconds: float, within: tuple[float, float]
) -> list[dict[str, Any]]:
    """Every start that would do, with its score and what went into it."""
    first = within[0]
    latest = max(first, math.floor((within[1] - seconds) * 1000) / 1000)
    starts = {first, latest, *footage.faces}
    starts |= {math.ceil(cut * 1000) / 1000 for cut in footage.cuts}
    starts |= {math.floor((cut - seconds) * 1000) / 1000 for cut in footage.cuts}
    spoilt = np.array([*footage.frozen, *footage.damaged]).reshape(-1, 2)
    starts |= {math.ceil(end * 1000) / 1000 for end in spoilt[:, 1].tolist()}
    starts |= {math.floor((begin - seconds) * 1000) / 1000 for begin in spoilt[:, 0].tolist()}
    times = np.array(list(footage.faces))
    cuts = np.array(sorted(footage.cuts))
    sharpest = max((face.sharpness for faces in footage.faces.values() for face in faces), default=1.0)
    candidates = []
    for start in sorted(start for start in starts if first <= start <= latest):
        if np.any((cuts > start + 0.001) & (cuts < start + seconds - 0.001)):
            continue
        if np.any((spoilt[:, 0] < start + seconds - 0.001) & (spoilt[:, 1] > start + 0.001)):
            continue
        inside = [float(time) for time in times[(times >= start) & (times < start + seconds)]]
        good = [time for time in inside if states[time] == GOOD]
        if inside and _is_good_enough(inside, states):
            faces = [max(_own(footage, time, subject), key=lambda face: face.side) for time in good]
            candidates.append({"start_seconds": start} | _measure(faces, len(inside), sharpest))
    return candidates


def _own(footage: Footage, time: float, subject: int) -> list[SeenFace]:
    return [face for face in footage.faces[time] if face.person == subject]


def _is_good_enough(inside: Sequence[float], states: dict[float, str]) -> bool:
    is_good = [states[time] == GOOD for time in inside]
    bad_pairs = any(not one and not other for one, other in itertools.pairwise(is_good))
    return sum(is_good) >= MIN_GOOD * len(is_good) and not bad_pairs


def _measure(faces: Sequence[SeenFace], num_samples: int, sharpest: float) -> dict[str, Any]:
    side = float(np.median([face.side for face in faces]))
    centres = np.stack([face.centre for face in faces])
    drift = float(np.linalg.norm(centres.std(axis=0))) / side
    turn = float(np.mean([face.turn for face in faces]))
    sharpness = float(np.mean([face.sharpness for face in faces])) / max(sharpest, 1e-6)
    share = len(faces) / num_samples
    score = share * (1 - turn) * min(1.0, side / 0.3) ** 0.5 / (1 + drift) * sharpness**0.5
    values = {"score": score, "share_good": share, "turn": turn, "drift": drift, "face_height": side}
    return {name: round(value, 3) for name, value in (values | {"sharpness": sharpness}).items()}
