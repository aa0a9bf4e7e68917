"""One person's clip, its crop and every fake of it, decoded side by side, frame by frame: each file once.

So a fake is beside the very frame of its target that it was made from, and nothing is held but a second of cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from generation.crops.masks import read_masks
from generation.errors import FaceError, GenerationError, VideoError
from generation.faces.track import FaceTrack
from homologous_deepfake import SUBSETS
from tooling.stages.verify.file_check import FileCheck, contract_of, is_image, is_imported, people_of, subset_of
from tooling.stages.verify.meters import descriptors as looks
from tooling.stages.verify.meters.against_target import TargetMeter
from tooling.stages.verify.meters.crops import CropMeter, FaceLook, has_landmarks
from tooling.stages.verify.meters.descriptors import LookMeter
from tooling.stages.verify.meters.in_step import Cells, Window, cells_of
from tooling.stages.verify.meters.mouths import MouthMeter
from tooling.stages.verify.meters.stills import check_image
from tooling.stages.verify.signatures import check_marks
from tooling.stages.verify.video_pass import Luma, VideoPass, luma_of
from tooling.workspace.files import file_sha256
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord
from tooling.workspace.signing_keys import SigningKeys, read_keys

if TYPE_CHECKING:  # imports torch
    from tooling.stages.verify.meters.swaps import SwapLook


@dataclass(frozen=True)
class Circumstances:
    """What the check of a file depends on beside itself.

    Attributes:
        clips: names of the workspace's clips.
        has_keys: whether there is a certificate to check marks by.
        encoder: identity encoder, ONNX; None leaves identities out.
    """

    clips: frozenset[str]
    has_keys: bool
    encoder: Path | None


@dataclass(frozen=True)
class GroupWork:
    """Files that are checked together, by one worker.

    Attributes:
        workspace: to read in.
        circumstances: see there.
        checked: files to check: of one person, or images.
        unchanged: files that were found right before: their digests are compared, nothing is decoded.
        clip: the person's clip, with which the others are compared; None where there is none, and for images.
    """

    workspace: Workspace
    circumstances: Circumstances
    checked: tuple[FileRecord, ...]
    unchanged: tuple[FileRecord, ...] = ()
    clip: FileRecord | None = None

    @property
    def paths(self) -> list[str]:
        """Names of all its files."""
        return [record.path for record in (*self.checked, *self.unchanged)]


@dataclass
class _Watched:
    """One file under way and what looks at it."""

    film: VideoPass
    looks: LookMeter
    cells: Cells | None = None
    target: TargetMeter | None = None
    crop: CropMeter | None = None
    face: FaceLook | None = None
    swap: SwapLook | None = None
    mouth: MouthMeter | None = None
    masks: Iterator[Luma] | None = None

    @property
    def name(self) -> str:
        return self.film.record.path

    def finish(self) -> None:
        """Hands over what was measured, unless the file did not decode."""
        check = self.film.check
        check.content, check.descriptors, check.mean_picture = (
            self.looks.content(),
            self.looks.looks(),
            self.looks.backdrop(),
        )
        check.measurements.update(self.looks.measurements())
        check.mouth = self.mouth.text() if self.mouth is not None else ""
        for meter in (self.target, self.crop, self.face, self.swap):
            if meter is not None and self.film.is_whole:
                meter.finish()


@dataclass
class _Group:
    """The decoding of one group."""

    work: GroupWork
    checks: dict[str, FileCheck]
    window: Window = field(default_factory=Window)
    watched: list[_Watched] = field(default_factory=list)
    clip: _Watched | None = None

    def run(self) -> None:
        """Decodes everything, then hands over what was measured."""
        number = 0
        try:
            while self._step(number):
                number += 1
        finally:
            for one in self.watched:
                one.film.close()
        for one in self.watched:
            one.finish()

    def _step(self, number: int) -> bool:
        clip_luma, is_any = None, False
        for one in self.watched:  # the clip comes first
            frame = one.film.step()
            if frame is None:
                continue
            is_any = True
            luma = luma_of(frame)
            one.cells = cells_of(luma)
            if one is self.clip:
                clip_luma = luma
                self.window.add(one.cells)
            one.looks.add(number, luma, one.cells)
            if one.mouth is not None:
                one.mouth.add(number, luma)
            if one.looks.wants(number):
                one.looks.describe(one.film.rgb())
            if one.face is not None and number in one.face.wanted:
                one.face.add(one.film.rgb())
            if clip_luma is not None and one is not self.clip:
                self._compare(number, one, luma, clip_luma)
        return is_any

    def _compare(self, number: int, one: _Watched, luma: Luma, clip_luma: Luma) -> None:
        assert self.clip is not None
        assert self.clip.cells is not None
        assert one.cells is not None
        if one.crop is not None:
            one.crop.add(number, luma, clip_luma)
        if luma.shape != clip_luma.shape:  # told already
            return
        if one.target is not None:
            mask = None if one.masks is None else self._mask(one)
            if one.target is not None:
                one.target.add(number, one.cells, self.clip.cells, mask)
        if one.swap is not None and number in one.swap.wanted:
            one.swap.add(number, self.clip.film.rgb(), one.film.rgb())

    def _mask(self, one: _Watched) -> Luma | None:
        """The next mask; where there is none the fake is not compared any more."""
        assert one.masks is not None
        place = f"masks/{one.name}"
        try:
            mask = next(one.masks, None)
            problem = "ends before its fake; make the fake again"
        except VideoError as error:
            mask, problem = None, f"does not decode ({str(error).partition(';')[0]}); make its fake again"
        if mask is None:
            one.film.check.error("record", problem, place)
            one.target = None
        return mask


def check_group(work: GroupWork) -> dict[str, FileCheck]:
    """Checks files; runs in a worker.

    Returns:
        Path -> check, of those that were checked, and of those unchanged ones that are not as recorded any more.
    """
    found: dict[str, FileCheck] = {}
    for record in work.unchanged:
        check = FileCheck(record.path)
        _check_digests(work.workspace, record, check)
        if not check.is_ok:
            found[record.path] = check
    whole = []
    for record in work.checked:
        check = found[record.path] = FileCheck(record.path)
        if _check_digests(work.workspace, record, check):
            whole.append(record)
            if work.circumstances.has_keys:
                keys = _keys(work.workspace.keys_path)
                path = work.workspace.path(record.path)
                check_marks(path, record, keys, work.circumstances.clips, check)
    if whole and is_image(whole[0]):
        for record in whole:
            check_image(work.workspace.path(record.path), record, found[record.path])
    elif whole:
        _watch(work, whole, found).run()
    return found


def _check_digests(workspace: Workspace, record: FileRecord, check: FileCheck) -> bool:
    """Whether the file itself is there as recorded; what is wrong with it and its companions goes to `check`."""
    is_whole = True
    for relative, digest in {record.path: record.sha256, **record.companions}.items():
        path = workspace.path(relative)
        problem = ""
        if not path.is_file():
            problem = "is missing; run its stage again"
        elif file_sha256(path) != digest:
            problem = "differs from its record (sha256); delete it and make it again"
        if problem:
            check.error("record", problem, relative)
            is_whole &= relative != record.path
    return is_whole


def _watch(work: GroupWork, whole: list[FileRecord], found: dict[str, FileCheck]) -> _Group:
    """Opens the files of a group, the clip first, each with what looks at it."""
    group = _Group(work, found)
    workspace, clip = work.workspace, work.clip
    track = _read_track(workspace, people_of(whole[0])[0], whole, found)
    is_needed = clip is not None and workspace.path(clip.path).is_file() and (clip in whole or _is_intact(work, clip))
    if clip is not None and is_needed:
        check = found.get(clip.path) if clip in whole else None
        group.clip = _open(work, clip, check or FileCheck(clip.path), track)
        group.watched.append(group.clip)
    for record in whole:
        if record == clip:
            continue
        one = _open(work, record, found[record.path], track)
        group.watched.append(one)
        if subset_of(record) == "face_video":
            one.face = FaceLook(one.film.check, record.num_frames)
            if (
                group.clip is not None
                and track is not None
                and workspace.track_name(people_of(record)[0]) in (record.companions)
            ):
                one.crop = CropMeter(one.film.check, group.clip.name, track)
        elif group.clip is not None and subset_of(record) != "raw_video":
            _watch_fake(group, one, track)
    return group


def _watch_fake(group: _Group, one: _Watched, track: FaceTrack | None) -> None:
    assert group.clip is not None
    record, workspace = one.film.record, group.work.workspace
    method, mask = SUBSETS[subset_of(record)].method, workspace.path(f"masks/{record.path}")
    has_masks = f"masks/{record.path}" in record.companions and mask.is_file()
    # What is driven elsewhere is a new picture all over; nothing of it need be its target's.
    if has_masks or not (is_imported(record) and method == "expression_driven"):
        one.target = TargetMeter(record, one.film.check, group.clip.name, group.window, track)
        one.masks = read_masks(mask) if has_masks else None
    if method == "face_swap" and track is not None and has_landmarks(track):
        from tooling.stages.verify.meters.swaps import SwapLook

        source = people_of(record)[1]
        clip, name = workspace.path(f"raw_video/{source}.mp4"), workspace.path(workspace.track_name(source))
        known = None
        if clip.is_file() and name.is_file():
            known = (clip, FaceTrack.from_json(name.read_text(encoding="utf-8"), name=str(name)))
        is_strict = not is_imported(record)
        one.swap = SwapLook(one.film.check, track, known, group.work.circumstances.encoder, is_strict=is_strict)


def _open(work: GroupWork, record: FileRecord, check: FileCheck, track: FaceTrack | None) -> _Watched:
    contract = contract_of(work.workspace, subset_of(record))
    is_crop = subset_of(record) == "face_video"
    boxes = looks.boxes_of(track, record.width if is_crop else None)
    film = VideoPass(work.workspace.path(record.path), record, contract, check)
    subset = subset_of(record)
    is_mouth_needed = subset == "raw_video" or SUBSETS[subset].method == "expression_driven"
    mouth = MouthMeter(track) if track is not None and is_mouth_needed else None
    return _Watched(film, LookMeter(contract.num_frames, boxes), mouth=mouth)


def _is_intact(work: GroupWork, clip: FileRecord) -> bool:
    return file_sha256(work.workspace.path(clip.path)) == clip.sha256


def _read_track(
    workspace: Workspace, person: str, whole: list[FileRecord], found: dict[str, FileCheck]
) -> FaceTrack | None:
    name = workspace.track_name(person)
    path = workspace.path(name)
    if not path.is_file():
        return None
    try:
        return FaceTrack.from_json(path.read_text(encoding="utf-8"), name=name)
    except (FaceError, GenerationError, UnicodeDecodeError) as error:
        crop = next((record for record in whole if name in record.companions), whole[0])
        found[crop.path].error("record", str(error).removeprefix(f"{name}: "), name)
        return None


@lru_cache(maxsize=2)
def _keys(folder: Path) -> SigningKeys:
    return read_keys(folder)
