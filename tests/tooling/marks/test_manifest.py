"""Marks say what a file is, cost the same for real and fake, change no pixel, and do not survive a change."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from PIL import Image

from generation.errors import VideoError
from generation.media.reader import probe_video, read_clip, read_image
from generation.media.tags import read_tags, write_tags
from generation.media.writer import write_clip
from tests.tooling.marks.expiring import expiring_keys, outlive
from tests.tooling.marks.time_stamps import StampServer, serving_stamps
from tests.workspaces import HEIGHT, WIDTH, moving_pattern
from tooling.errors import InputError, WorkspaceError
from tooling.marks.manifest import Ingredient, Mark, mark_file, read_marks
from tooling.workspace import signing_keys as signing
from tooling.workspace.signing_keys import SigningKeys, init_keys, read_keys, read_signing_keys

PAIR = (
    Ingredient("raw_video/1.mp4", "a" * 64, "parentOf"),
    Ingredient("raw_video/2.mp4", "b" * 64, "componentOf"),
)
REAL = Mark("raw_video/1.mp4", "real", "ingest")
SWAP = Mark("swap_video/1_2.mp4", "face_swap", "weightfree-swap", PAIR)
IMAGE = Mark("GAN_images/000001.png", "full_face_generation", "weightfree-faces")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> SigningKeys:
    return init_keys(tmp_path_factory.mktemp("signing") / "keys")


def film(folder: Path, name: str = "1.mp4") -> Path:
    write_clip(folder / name, moving_pattern(WIDTH, HEIGHT, 3))
    return folder / name


def test_a_swap_names_what_it_is_and_was_made_from(tmp_path: Path, keys: SigningKeys) -> None:
    path = film(tmp_path)
    before, info = read_clip(path), probe_video(path)
    mark_file(path, SWAP, keys)
    assert np.array_equal(read_clip(path), before)
    assert probe_video(path) == info
    found = read_marks(path, keys)
    assert found.state == "trusted"
    assert found.source_types == ("compositeWithTrainedAlgorithmicMedia",)
    assert found.ingredients == ("raw_video/1.mp4", "raw_video/2.mp4")
    assert [label["Label"] for label in found.labels] == ["1"]
    assert found.labels[0]["ProduceID"] == "Homologous_deepfake:swap_video/1_2.mp4"


def test_an_image_is_marked_once(tmp_path: Path, keys: SigningKeys) -> None:
    path = tmp_path / "000001.png"
    Image.fromarray(next(moving_pattern(32, 32, 1))).save(path)
    before = read_image(path)
    mark_file(path, IMAGE, keys)
    mark_file(path, IMAGE, keys)
    assert np.array_equal(read_image(path), before)
    found = read_marks(path, keys)
    assert (found.state, found.source_types) == ("trusted", ("trainedAlgorithmicMedia",))
    assert len(found.labels) == 1


def test_marks_cost_the_same_for_real_and_fake(tmp_path: Path, keys: SigningKeys) -> None:
    real, fake = film(tmp_path, "1.mp4"), film(tmp_path, "2.mp4")
    mark_file(real, REAL, keys)
    mark_file(fake, SWAP, keys)
    assert real.stat().st_size == fake.stat().st_size
    found = read_marks(real, keys)
    assert (found.state, found.source_types, found.labels) == ("trusted", ("digitalCapture",), ())


def test_a_changed_file_is_found_out(tmp_path: Path, keys: SigningKeys) -> None:
    path = film(tmp_path)
    mark_file(path, SWAP, keys)
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)
    assert read_marks(path, keys).state == "invalid"


def test_without_and_with_foreign_marks(tmp_path: Path, keys: SigningKeys) -> None:
    path = film(tmp_path)
    assert read_marks(path, keys).state == "missing"
    mark_file(path, SWAP, init_keys(tmp_path / "others"))
    assert read_marks(path, keys).state == "untrusted"


def test_a_copy_without_its_metadata_has_no_mark(tmp_path: Path, keys: SigningKeys) -> None:
    path = film(tmp_path)
    mark_file(path, SWAP, keys)
    frames = read_clip(path)
    write_clip(tmp_path / "copy.mp4", frames)
    found = read_marks(tmp_path / "copy.mp4", keys)
    assert (found.state, found.labels) == ("missing", ())


def test_what_cannot_be_marked_is_left_as_it_is(tmp_path: Path, keys: SigningKeys) -> None:
    path = tmp_path / "1.mp4"
    path.write_bytes(b"no video at all, but long enough")
    with pytest.raises(VideoError, match=r"1\.mp4: cannot be read as video"):
        mark_file(path, SWAP, keys)
    assert path.read_bytes() == b"no video at all, but long enough"
    assert [found.name for found in tmp_path.iterdir()] == ["1.mp4"]
    with pytest.raises(InputError, match=r"cannot be marked; only \.mp4 and \.png can"):
        mark_file(tmp_path / "1.avi", SWAP, keys)


def test_tags_replace_those_of_the_same_name(tmp_path: Path) -> None:
    path = film(tmp_path)
    write_tags(path, tmp_path / "2.mp4", {"AIGC": "one"})
    write_tags(tmp_path / "2.mp4", tmp_path / "3.mp4", {"AIGC": "two"})
    assert [text for name, text in read_tags(tmp_path / "3.mp4") if name == "AIGC"] == ["two"]


def test_keys_are_private_and_made_once(tmp_path: Path) -> None:
    made = init_keys(tmp_path / "keys")
    assert made.is_test
    assert "PRIVATE" not in repr(made)
    assert stat.S_IMODE((tmp_path / "keys" / signing.PRIVATE_KEY).stat().st_mode) == 0o600
    with pytest.raises(WorkspaceError, match="has keys already"):
        init_keys(tmp_path / "keys")


def add_nothing(builder: x509.CertificateBuilder, extension: x509.ExtensionType, critical: bool) -> Any:
    """In place of `add_extension`: as chains were made before they were marked."""
    is_mark = isinstance(extension, x509.UnrecognizedExtension)
    return builder if is_mark else ADD_EXTENSION(builder, extension, critical)


ADD_EXTENSION = x509.CertificateBuilder.add_extension


def test_a_test_chain_is_known_by_its_mark_and_an_older_one_by_its_whole_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (signing.TEST_NAME, "LATEST Media"):
        monkeypatch.setattr(signing, "TEST_NAME", name)
        assert init_keys(tmp_path / f"marked {name}").is_test
    monkeypatch.undo()
    monkeypatch.setattr(x509.CertificateBuilder, "add_extension", add_nothing)
    assert init_keys(tmp_path / "older").is_test
    with monkeypatch.context() as patch:
        patch.setattr(signing, "TEST_NAME", "LATEST Media")
        init_keys(tmp_path / "own")
    own = read_keys(tmp_path / "own")
    assert not own.is_test
    path = film(tmp_path)
    mark_file(path, SWAP, own)
    assert read_marks(path, own).state == "trusted"


def test_bad_keys_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="no signing certificate; run `tooling keys init`"):
        read_keys(tmp_path / "none")
    init_keys(tmp_path / "keys")
    init_keys(tmp_path / "others")
    key = tmp_path / "keys" / signing.PRIVATE_KEY
    key.write_bytes((tmp_path / "others" / signing.PRIVATE_KEY).read_bytes())
    with pytest.raises(InputError, match="is not the key of"):
        read_keys(tmp_path / "keys")
    key.write_text("nonsense")
    with pytest.raises(InputError, match="keys cannot be read"):
        read_keys(tmp_path / "keys")


@pytest.fixture
def stamps(tmp_path: Path) -> Iterator[StampServer]:
    with serving_stamps(datetime.now(UTC)) as server:
        yield server


def flip(path: Path) -> Path:
    """A copy with one bit of its pictures changed."""
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    changed = path.with_stem(f"{path.stem}-changed")
    changed.write_bytes(content)
    return changed


def with_stamps(folder: Path, keys: SigningKeys, stamps: StampServer) -> SigningKeys:
    """The keys with a server whose root is trusted."""
    (folder / signing.ROOT).write_bytes(keys.root + stamps.root)
    return read_signing_keys(folder, stamps.url)


def test_a_certificate_that_has_expired_is_judged_apart_from_changes(tmp_path: Path, stamps: StampServer) -> None:
    plain, stamped = film(tmp_path), film(tmp_path, "2.mp4")
    renewed, keys = init_keys(tmp_path / "renewed"), expiring_keys(tmp_path / "keys")
    mark_file(plain, SWAP, keys)
    keys = with_stamps(tmp_path / "keys", keys, stamps)
    mark_file(stamped, SWAP, keys)
    assert stamps.num_requests == 1
    outlive(keys)
    keys = read_keys(tmp_path / "keys")
    found = {path: read_marks(path, keys) for path in (plain, flip(plain), stamped, flip(stamped))}
    assert [(marks.state, marks.is_expired, marks.has_time_stamp) for marks in found.values()] == [
        ("trusted", True, False),
        ("invalid", False, False),
        ("trusted", False, True),
        ("invalid", False, True),
    ]
    assert found[plain].ingredients == ("raw_video/1.mp4", "raw_video/2.mp4")
    others = read_marks(plain, renewed)
    assert (others.state, others.is_expired) == ("untrusted", True)
    with pytest.raises(
        InputError, match=r"certificate\.pem: expired on 20.*clock says 20.*; run `tooling keys init --force`, then"
    ):
        read_signing_keys(tmp_path / "keys")


def test_a_stamp_from_outside_the_certificates_time_is_no_change_either(tmp_path: Path, keys: SigningKeys) -> None:
    path = film(tmp_path)
    with serving_stamps(datetime.now(UTC) - timedelta(days=400)) as stamps:
        trusting = dataclasses.replace(keys, root=keys.root + stamps.root, timestamp_server=stamps.url)
        mark_file(path, REAL, trusting)
        other = film(tmp_path, "2.mp4")
        mark_file(other, SWAP, trusting)
    assert path.stat().st_size == other.stat().st_size
    found = read_marks(path, trusting)
    assert (found.state, found.is_expired) == ("trusted", True)
    assert read_marks(flip(path), trusting).state == "invalid"


def test_without_a_stamp_that_can_be_trusted_nothing_is_marked(
    tmp_path: Path, keys: SigningKeys, stamps: StampServer
) -> None:
    path = film(tmp_path)
    before = path.read_bytes()
    asking = dataclasses.replace(keys, timestamp_server=stamps.url)
    with pytest.raises(InputError, match=rf"root\.pem does not vouch for the time stamps of {stamps.url}; append"):
        mark_file(path, REAL, asking)
    stamps.status = 503
    with pytest.raises(InputError, match=rf"no time stamp from {stamps.url} .*503.*; run it again when") as caught:
        mark_file(path, REAL, asking)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_clock_that_is_wrong_is_named(tmp_path: Path) -> None:
    begins = datetime.now(UTC) + timedelta(days=30)
    init_keys(tmp_path / "keys", begins=begins)
    now = datetime.now(UTC)
    with pytest.raises(InputError) as caught:
        read_signing_keys(tmp_path / "keys")
    assert f"is valid from {begins:%Y-%m-%d %H:%M} until" in str(caught.value)
    assert f"this machine's clock says {now:%Y-%m-%d}" in str(caught.value)
    assert "; set the clock, or put a certificate there that is valid now" in str(caught.value)
