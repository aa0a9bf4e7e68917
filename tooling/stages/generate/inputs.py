"""What a fake may be made from: the requested names, people with consent, and exactly the files that were recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from generation.crops.clip import FaceClip
from generation.faces.track import FaceTrack
from generation.media.reader import pick_frames, read_frames
from tooling.errors import ConsentError, InputError, UsageError, WorkspaceError
from tooling.stages.generate.request import GenerateRequest
from tooling.workspace.layout import Workspace
from tooling.workspace.readiness import stale_tracks
from tooling.workspace.records import command_for

Planned = TypeVar("Planned")


def select(
    subset: str, planned: Mapping[str, Planned], left_out: Mapping[str, str], request: GenerateRequest
) -> dict[str, Planned]:
    """The planned fakes that are requested, by their name below the subset, in the order of the plan.

    Args:
        subset: of the fakes.
        planned: name below the subset -> fake.
        left_out: sample_id of a fake that is not made -> why.
        request: what to make.

    Raises:
        UsageError: a requested name is not planned, or is left out.
    """
    for name in request.only or ():
        if (sample_id := f"{subset}/{name}") in left_out:
            why, way_out = left_out[sample_id], f"`tooling plan --include {sample_id}` takes it back in"
            raise UsageError(f"{name}: is left out of the plan ({why}); {way_out}")
        if name not in planned:
            names = ", ".join(list(planned)[:8])
            raise UsageError(f"{name}: is not planned; planned are {names}{' ...' if len(planned) > 8 else ''}")
    chosen = [name for name in planned if f"{subset}/{name}" not in left_out]
    chosen = [name for name in chosen if request.only is None or name in request.only]
    return {name: planned[name] for name in chosen[: request.limit]}


def refuse_without_consent(workspace: Workspace, people: Sequence[str]) -> None:
    """Raises ConsentError, with their names, if any of the people has not granted consent or was taken down."""
    identities = workspace.identities()
    refused = []
    for person in people:
        workspace.refuse_taken_down(str(workspace.plan_path), person)
        status = identities[person].consent_status if person in identities else "unknown"
        if status != "granted":
            refused.append(f"{person} ({status})")
    if refused:
        raise ConsentError(
            f"{workspace.identities_path}: no consent for identity {', '.join(refused)}; nothing was made; "
            "run `tooling plan` to draw pairs without them"
        )


def clip_inputs(workspace: Workspace, people: Sequence[str]) -> dict[str, str]:
    """Path in the workspace -> recorded SHA-256 of what the people's fakes are made from: each person's track, and the
    master of the clip, or the clip itself if it has no master.

    Raises:
        WorkspaceError: a file is not made yet.
    """
    raw, faces = workspace.records("raw_video"), workspace.records("face_video")
    inputs: dict[str, str] = {}
    for person in people:
        clip, crop = raw.get(f"raw_video/{person}"), faces.get(f"face_video/{person}")
        track = workspace.track_name(person)
        if clip is None or not workspace.path(clip.path).is_file():
            missing = workspace.path(f"raw_video/{person}.mp4")
            raise WorkspaceError(f"{missing}: not made yet; run `tooling ingest SOURCES` first")
        if crop is None or track not in crop.companions or not workspace.path(track).is_file():
            raise WorkspaceError(f"{workspace.path(track)}: not made yet; run `tooling faces` first")
        master = workspace.master_name(person)
        if master in clip.companions and not workspace.path(master).is_file():
            raise WorkspaceError(f"{workspace.path(master)}: is missing; run `tooling ingest SOURCES` again")
        film, digest = (
            (master, clip.companions[master]) if master in clip.companions else (clip.path, clip.input_sha256)
        )
        inputs |= {film: digest, track: crop.companions[track]}
    return dict(sorted(inputs.items()))


def people_with_stale_tracks(workspace: Workspace, people: Sequence[str]) -> dict[str, str]:
    """Identity -> one line, of people whose track was made from another clip than the present one."""
    stale = stale_tracks(workspace.records("raw_video"), workspace.records("face_video"))
    found = {}
    for person in people:
        if (track := workspace.track_name(person)) in stale:
            way_out = f"run `tooling faces --only {person}`, and if it refuses, choose another start_seconds"
            found[person] = f"{track}: was made from an older {stale[track]}; {way_out}"
    return found


def face_clip(
    workspace: Workspace, person: str, inputs: Mapping[str, str], *, wears_glasses: bool | None = None
) -> tuple[FaceClip, FaceTrack]:
    """A person's clip and track, after a check that the files have the digests in `inputs`; see `clip_inputs`.

    Args:
        workspace: with the files.
        person: whose clip it is.
        inputs: path in the workspace -> SHA-256.
        wears_glasses: see `FaceClip`.

    Raises:
        InputError: a file has another digest.
        FaceError: the track is damaged.
    """
    master = workspace.master_name(person)
    names = (master if master in inputs else f"raw_video/{person}.mp4", workspace.track_name(person))
    for name, subset in zip(names, ("raw_video", "face_video"), strict=True):
        if not workspace.matches_record(name, inputs[name]):
            way_out = f"delete it and run {command_for(subset)}"
            raise InputError(f"{workspace.path(name)}: differs from its record; {way_out}")
    clip, track = map(workspace.path, names)
    found = FaceTrack.from_json(track.read_bytes(), name=str(track))
    made = FaceClip(
        str(clip),
        lambda: read_frames(clip),
        found.landmarks,
        found.is_detected,
        wears_glasses,
        lambda numbers: pick_frames(clip, numbers),
    )
    return made, found
