"""One person's clip, its crop and every fake of it, decoded side by side, frame by frame: each file once.

So a fake is beside the very frame of its target that it was made from, and no more than a second of cells is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from generation.errors import FaceError
from generation.faces.track import FaceTrack
from homologous_deepfake import SUBSETS, mask_path, people_of
from tooling.stages.verify.file_check import FileCheck, contract_of, is_image, is_imported
from tooling.stages.verify.meters.against_target import TargetMeter
from tooling.stages.verify.meters.crops import CropMeter, FaceMeter, has_landmarks
from tooling.stages.verify.meters.descriptors import ContentMeter, boxes_of
from tooling.stages.verify.meters.in_step import Window
from tooling.stages.verify.meters.masks import MaskMeter
from tooling.stages.verify.meters.meter import DecodedFrame, Meter
from tooling.stages.verify.meters.mouths import MouthMeter
from tooling.stages.verify.meters.raw_clip import FreezeMeter, UprightMeter
from tooling.stages.verify.meters.recognition import IdentityMeter
from tooling.stages.verify.meters.shown import ExcerptMeter
from tooling.stages.verify.meters.statistics import TracesMeter
from tooling.stages.verify.meters.stills import check_image
from tooling.stages.verify.meters.views import ViewMeter, landmarks_of
from tooling.stages.verify.signatures import check_marks
from tooling.stages.verify.state import CheckItem
from tooling.stages.verify.video_pass import VideoPass
from tooling.workspace.files import file_sha256
from tooling.workspace.layout import Workspace
from tooling.workspace.records import FileRecord, command_for, shown_identities
from tooling.workspace.signing_keys import SigningKeys, read_keys


@dataclass(frozen=True)
class OpenFile:
    """A file while it is decoded, with its meters."""

    film: VideoPass
    meters: list[Meter]

    def step(self, clip: DecodedFrame | None) -> DecodedFrame | None:
        """Decodes the next frame and hands it to the meters, with its clip's; None after the last."""
        frame = self.film.step()
        if frame is not None:
            for meter in self.meters:
                if meter.wants(frame.number):
                    meter.add(frame, clip)
        return frame

    def finish(self) -> None:
        """Finishes the meters, those that need a whole file only if it decoded to its end."""
        for meter in self.meters:
            if self.film.is_whole or not meter.needs_whole_file:
                meter.finish()


@dataclass(frozen=True)
class TargetClip:
    """Whom the files of one group show: clip (None if it cannot be compared with), its window and its face's track."""

    clip: FileRecord | None
    track: FaceTrack | None
    window: Window


def check_group(item: CheckItem) -> dict[str, FileCheck]:
    """Checks files; runs in a worker.

    Returns:
        Path -> check, of those to check, and of those unchanged ones that differ from their records by now.
    """
    found: dict[str, FileCheck] = {}
    whole, unchanged = [], []
    for record in item.unchanged:
        check = FileCheck(record.path)
        if _check_digests(item.workspace, record, check):
            unchanged.append(record)
        if not check.is_ok:
            found[record.path] = check
    for record in item.checked:
        check = found[record.path] = FileCheck(record.path)
        if _check_digests(item.workspace, record, check):
            whole.append(record)
            if item.context.has_keys:
                keys = _keys(item.workspace)
                check_marks(item.workspace.path(record.path), record, keys, item.context.clips, check)
    if whole and is_image(whole[0]):
        for record in whole:
            check_image(item.workspace.path(record.path), record, found[record.path], item.context.encoder)
    elif whole:
        clip = item.clip if item.clip in (*whole, *unchanged) else None  # else it is missing or damaged
        _decode(_open_files(item, clip, whole, found))
    return found


def _check_digests(workspace: Workspace, record: FileRecord, check: FileCheck) -> bool:
    """Whether the file itself is there as recorded; what is wrong with it and its companions goes to `check`."""
    is_whole = True
    for relative, digest in {record.path: record.sha256, **record.companions}.items():
        path = workspace.path(relative)
        problem = ""
        if not path.is_file():
            problem = f"is missing; run {command_for(record.subset)} again"
        elif file_sha256(path) != digest:
            problem = f"differs from its record (sha256); run {command_for(record.subset)} again"
        if problem:
            check.error("record", problem, relative)
            is_whole &= relative != record.path
    return is_whole


def _decode(files: list[OpenFile]) -> None:
    """Decodes all files in step, the clip first, then finishes their meters."""
    try:
        is_any = True
        while is_any:
            is_any, clip = False, None
            for file in files:
                frame = file.step(clip)
                is_any |= frame is not None
                if file.film.record.subset == "raw_video":
                    clip = frame
    finally:
        for file in files:
            file.film.close()
    for file in files:
        file.finish()


def _open_files(
    item: CheckItem, clip: FileRecord | None, whole: list[FileRecord], found: dict[str, FileCheck]
) -> list[OpenFile]:
    """Opens the files of a group, the clip first, each with its meters."""
    workspace = item.workspace
    track = _read_track(workspace, people_of(whole[0].sample_id)[0], whole, found)
    target = TargetClip(clip, track, Window())
    files = []
    for record in ([clip] if clip else []) + [record for record in whole if record != clip]:
        check = found.get(record.path) or FileCheck(record.path)
        contract = contract_of(workspace, record.subset)
        assert contract is not None  # images are not in a group with videos
        film = VideoPass(workspace.path(record.path), record, contract, check, workspace.staging_folder)
        files.append(OpenFile(film, choose_meters(item, record, check, target)))
    return files


def choose_meters(item: CheckItem, record: FileRecord, check: FileCheck, target: TargetClip) -> list[Meter]:
    """What is measured of a file, by its subset and by what there is to compare it with."""
    subset, clip, track = record.subset, target.clip, target.track
    crop_px = record.width if subset == "face_video" else None
    num_frames, landmarks = item.workspace.settings.clip.num_frames, landmarks_of(track, crop_px)
    meters: list[Meter] = [
        ContentMeter(check, num_frames, boxes_of(track, crop_px)),
        TracesMeter(check, record.num_frames),
        ViewMeter(check, num_frames, landmarks),
        *(ExcerptMeter(item.workspace, record, one, track if one else None) for one in shown_identities(record)),
    ]
    if track is not None and (subset == "raw_video" or SUBSETS[subset].method == "expression_driven"):
        meters.append(MouthMeter(check, track))
    is_driven_elsewhere = is_imported(record) and SUBSETS[subset].method == "expression_driven"  # the face may be too
    encoder = item.context.encoder
    if encoder is not None and track is not None and landmarks is not None and not is_driven_elsewhere:
        meters.append(IdentityMeter(check, track, landmarks, encoder))
    if subset == "raw_video":
        freezes = FreezeMeter(check, item.workspace.settings.clip.fps, track)
        meters += [target.window, freezes, UprightMeter(check, num_frames)]
    elif subset == "face_video":
        meters.append(FaceMeter(check, record.num_frames))
        is_tracked = item.workspace.track_name(people_of(record.sample_id)[0]) in record.companions
        if clip is not None and track is not None and is_tracked:
            meters.append(CropMeter(check, clip.path, track))
    else:
        meters += _fake_meters(item, record, check, target)
    return meters


def _fake_meters(item: CheckItem, record: FileRecord, check: FileCheck, target: TargetClip) -> list[Meter]:
    """What is measured of a fake: its mask, and what it is beside its target's clip."""
    meters: list[Meter] = []
    method, track, mask = SUBSETS[record.subset].method, target.track, None
    name = mask_path(record.path)
    path = item.workspace.path(name)
    if name in record.companions and path.is_file():
        mask = MaskMeter(record, check, path, name)
        meters.append(mask)
    if target.clip is None:
        return meters
    # A fake that was driven elsewhere is a new picture all over; nothing of it need be its target's.
    if mask or not (is_imported(record) and method == "expression_driven"):
        meters.append(TargetMeter(record, check, target.clip.path, target.window, track, mask))
    if method == "face_swap" and track is not None and has_landmarks(track):
        from tooling.stages.verify.meters.swaps import SwappedFaceMeter  # imports torch

        meters.append(SwappedFaceMeter(check, track, is_strict=not is_imported(record)))
    return meters


def _read_track(
    workspace: Workspace, person: str, whole: list[FileRecord], found: dict[str, FileCheck]
) -> FaceTrack | None:
    name = workspace.track_name(person)
    path = workspace.path(name)
    if not path.is_file():
        return None
    try:
        return FaceTrack.from_json(path.read_bytes(), name=name)
    except FaceError as error:
        crop = next((record for record in whole if name in record.companions), whole[0])
        found[crop.path].error("record", str(error).removeprefix(f"{name}: "), name)
        return None


@lru_cache(maxsize=2)
def _keys(workspace: Workspace) -> SigningKeys:
    return replace(read_keys(workspace.keys_path), timestamp_server=workspace.settings.keys.timestamp_server)
