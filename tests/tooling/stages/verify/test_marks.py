"""Faults of a file's encoding, container and marks, on what is otherwise right: each is found and named."""

from __future__ import annotations

import dataclasses
import shutil
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from generation.media.reader import read_clip
from generation.media.tags import write_tags
from generation.media.writer import X264_OPTIONS, VideoWriter
from tests.tooling.marks.expiring import expiring_keys, outlive
from tests.tooling.stages.verify.verified import record_of, replace_record
from tooling.marks import manifest as provenance
from tooling.marks.manifest import Mark, label_text, mark_file
from tooling.marks.mark import mark_of
from tooling.stages.verify import run as verify
from tooling.workspace.files import file_sha256
from tooling.workspace.layout import Workspace, open_workspace
from tooling.workspace.signing_keys import init_keys, read_keys

REAL, STILL = "face_video/1.mp4", "GAN_images/000001.png"  # nothing else is decoded again with a crop


def errors_of(workspace: Workspace) -> list[str]:
    findings = verify.verify_files(workspace, num_workers=1)
    return [f"{finding.path}: {finding.message}" for finding in findings if finding.severity == "error"]


def swap_of(workspace: Workspace) -> str:
    return next(iter(workspace.records("swap_video").values())).path


def rerecord(workspace: Workspace, path: str, **changes: object) -> None:
    """What lies there counts as recorded."""
    file = workspace.path(path)
    now = {"sha256": file_sha256(file), "num_bytes": file.stat().st_size, **changes}
    replace_record(workspace, dataclasses.replace(record_of(workspace, path), **now))  # type: ignore[arg-type]


def mark_again(workspace: Workspace, path: str, mark: Mark | None = None, keys: Path | None = None) -> None:
    """Marks a file as something else, or by somebody else."""
    mark = mark or mark_of(workspace, record_of(workspace, path))
    mark_file(workspace.path(path), mark, read_keys(keys or workspace.keys_path))
    rerecord(workspace, path)


def encode(workspace: Workspace, path: str, **options: str) -> None:
    """The same pictures, encoded by other options, and marked."""
    file = workspace.path(path)
    frames = read_clip(file)
    height, width = frames.shape[1:3]
    with VideoWriter(file, width=width, height=height, options=X264_OPTIONS | options) as writer:
        for frame in frames:
            writer.write(frame)
    mark_again(workspace, path)


def vary_rate(workspace: Workspace, path: str) -> None:
    """The same number of frames over the same time, some shown longer."""
    file = workspace.path(path)
    frames = read_clip(file)
    with av.open(str(file), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=30, options=dict(X264_OPTIONS))
        (stream.height, stream.width), stream.pix_fmt = frames.shape[1:3], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 300)
        for number, frame in enumerate(frames):
            picture = VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = 10 * number + 4 * (number % 2), Fraction(1, 300)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    mark_again(workspace, path)


def add_audio(workspace: Workspace, path: str) -> None:
    file = workspace.path(path)
    source = file.with_suffix(".silent.mp4")
    file.rename(source)
    with av.open(str(source)) as given, av.open(str(file), "w", format="mp4") as made:
        video = given.streams.video[0]
        copied, sound = made.add_stream_from_template(video), made.add_stream("aac", rate=8000)
        samples = AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate, samples.pts = 8000, 0
        for packet in [*sound.encode(samples), *sound.encode(None)]:
            made.mux(packet)
        for packet in given.demux(video):
            if packet.dts is not None:
                packet.stream = copied
                made.mux(packet)
    source.unlink()
    rerecord(workspace, path)


def flip(workspace: Workspace, path: str) -> None:
    """One bit of the last picture changed after it was signed."""
    file = workspace.path(path)
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    file.write_bytes(content)
    rerecord(workspace, path)


def label_twice(workspace: Workspace, path: str) -> None:
    """A still with a second label, signed with it."""
    record = record_of(workspace, path)
    mark, file = mark_of(workspace, record), workspace.path(path)
    labelled = file.with_suffix(".labelled.png")
    text = label_text(mark)
    write_tags(file, labelled, {"AIGC": text})
    body = b"iTXt" + b"AIGC\0\0\0\0\0" + text.encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    content = labelled.read_bytes()
    labelled.write_bytes(content[:-12] + chunk + content[-12:])
    provenance._sign(labelled, file, mark, read_keys(workspace.keys_path))
    labelled.unlink()
    rerecord(workspace, path)


def unmark(workspace: Workspace, path: str) -> None:
    """The same packets without manifest and label."""
    file = workspace.path(path)
    bare = file.with_suffix(".bare.mp4")
    write_tags(file, bare, {})
    bare.replace(file)
    rerecord(workspace, path)


def reorder(workspace: Workspace, path: str) -> None:
    """The index after the pictures."""
    file = workspace.path(path)
    source = file.with_suffix(".first.mp4")
    file.rename(source)
    with av.open(str(source)) as given, av.open(str(file), "w", format="mp4") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    source.unlink()
    rerecord(workspace, path)


def sign_by_others(workspace: Workspace, path: str) -> None:
    init_keys(workspace.root / "others")
    mark_again(workspace, path, keys=workspace.root / "others")


FAULTS: dict[str, tuple[Callable[[Workspace], object], str]] = {
    "key frames": (lambda w: encode(w, REAL, g="5", keyint_min="5"), f"{REAL}: key frames: not every 15th"),
    "quality": (lambda w: encode(w, REAL, crf="30"), f"{REAL}: encoder settings: "),
    "profile": (lambda w: encode(w, REAL, profile="baseline"), f"{REAL}: profile: "),
    "variable rate": (lambda w: vary_rate(w, REAL), f"{REAL}: frame times: uneven, must be constant"),
    "audio": (lambda w: add_audio(w, REAL), f"{REAL}: audio: yes, must be no"),
    "index last": (lambda w: reorder(w, REAL), f"{REAL}: index: after the pictures, must be first"),
    "changed after it was signed": (lambda w: flip(w, REAL), f"{REAL}: was changed after it was signed"),
    "changed still": (lambda w: flip(w, STILL), f"{STILL}: "),
    "no mark": (lambda w: unmark(w, swap_of(w)), ": carries no mark; run `tooling keys sign`"),
    "second label": (lambda w: label_twice(w, STILL), f"{STILL}: AIGC labels: 2, must be 1"),
    "label on a real file": (
        lambda w: mark_again(w, REAL, Mark(REAL, "face_swap", "x")),
        f"{REAL}: AIGC labels: 1, must be 0",
    ),
    "fake that says it is real": (
        lambda w: mark_again(w, swap_of(w), Mark(swap_of(w), "real", "x")),
        ": its mark says digitalCapture, must be compositeWithTrainedAlgorithmicMedia",
    ),
    "without its parts": (
        lambda w: mark_again(w, swap_of(w), Mark(swap_of(w), "face_swap", "x")),
        ": its mark says it was made from nothing, must be raw_video/",
    ),
    "signed by others": (lambda w: sign_by_others(w, REAL), f"{REAL}: is signed by others than keys/"),
    "record without a mark": (
        lambda w: rerecord(w, REAL, digital_source_type=""),
        f"{REAL}: its record says unmarked, must be digitalCapture",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_encoding_or_marks(fault: str, pair_copy: Workspace) -> None:
    inject, message = FAULTS[fault]
    inject(pair_copy)
    found = errors_of(pair_copy)
    assert any(message in line for line in found), found


def test_one_error_names_the_command_that_makes_keys(pair_copy: Workspace) -> None:
    shutil.rmtree(pair_copy.keys_path)
    found = errors_of(pair_copy)
    assert len(found) == 1
    assert found[0].startswith("keys: marks were not checked: ")
    assert "tooling keys init" in found[0]


def test_other_signers_of_what_was_pulled_are_a_note(pair_copy: Workspace) -> None:
    sign_by_others(pair_copy, REAL)
    rerecord(pair_copy, REAL, results={"repository": "lab/set"}, origin="pulled")
    notes = [str(found) for found in verify.verify_files(pair_copy, num_workers=1) if found.path == REAL]
    assert notes == [f"note: {REAL}: is signed by others than keys/: it was pulled from lab/set"]


def test_settings_of_imported_files_are_a_note(pair_copy: Workspace) -> None:
    encode(pair_copy, REAL, crf="12")
    rerecord(pair_copy, REAL, origin="imported")
    findings = [str(found) for found in verify.verify_files(pair_copy, num_workers=1)]
    assert "note: face_video: 1 files were encoded elsewhere, with other settings" in findings
    assert not [line for line in findings if line.startswith(f"error: {REAL}")]


def test_a_certificate_that_has_expired_is_a_note_and_a_change_stays_an_error(pair_copy: Workspace) -> None:
    pulled = swap_of(pair_copy)
    keys = expiring_keys(pair_copy.root / "others")
    mark_again(pair_copy, pulled, keys=pair_copy.root / "others")
    rerecord(pair_copy, pulled, results={"repository": "lab/set"}, origin="pulled")
    keys = expiring_keys(pair_copy.keys_path)
    for path in (REAL, STILL):
        mark_again(pair_copy, path)
    outlive(keys)
    flip(pair_copy, STILL)
    findings = [str(found) for found in verify.verify_files(pair_copy, num_workers=1)]
    assert len([line for line in findings if line.startswith("note: keys/certificate.pem: expired on 20")]) == 1
    assert not [line for line in findings if REAL in line]
    assert [line for line in findings if line.startswith(f"error: {STILL}: was changed after it was signed")]
    note = (
        "is signed by others than keys/, with a certificate that is not valid at the time: it was pulled from lab/set"
    )
    assert f"note: {pulled}: {note}" in findings


def test_marks_without_the_time_stamp_that_is_demanded_are_an_error(pair_copy: Workspace) -> None:
    with (pair_copy.root / "workspace.toml").open("a") as file:
        file.write('\n[keys]\ntimestamp_server = "http://stamps.invalid/"\n')
    found = errors_of(open_workspace(pair_copy.root))
    assert f"{REAL}: has no time stamp, as workspace.toml demands; run `tooling keys sign`" in found
