"""Whose face a file shows: who is nearest decides, by a clear margin."""

from __future__ import annotations

import base64
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from generation.faces.identity import DlibIdentity, OnnxIdentity
from generation.faces.track import FaceTrack
from tests.actor_clips import HEIGHT, WIDTH, film_person
from tooling.actors import Gender, RenderSettings
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters.recognition import check_identities, frontal_frames
from tooling.stages.verify.state import EncoderChoice
from tooling.work.tasks import planned_record
from tooling.workspace.records import Origin

PEOPLE = np.eye(4, dtype=np.float32) * 0.5  # 0.71 apart


def near(person: int, other: int = 0, share: float = 0.0) -> NDArray[np.float32]:
    """Between two people, counted from 1: at the first, or a share of the way to the other."""
    return np.asarray(PEOPLE[person - 1] * (1 - share) + PEOPLE[other - 1] * share, np.float32)


def embedded(path: str, embedding: NDArray[np.float32]) -> FileCheck:
    return FileCheck(path, identity=base64.b64encode(embedding.astype(np.float16).tobytes()).decode())


def findings_of(
    path: str,
    embedding: NDArray[np.float32],
    encoder: EncoderChoice = "dlib",
    origin: Origin = "made",
    **parameters: list[str],
) -> tuple[list[tuple[str, str]], dict[str, float]]:
    clips = {f"raw_video/{n}.mp4": embedded(f"raw_video/{n}.mp4", near(n)) for n in range(1, 5)}
    checks = {**clips, path: embedded(path, embedding)}
    records = {name: planned_record(name[:-4], name, {}, "test", parameters, origin=origin) for name in checks}
    found = check_identities(checks, records, encoder)
    assert all(finding.path == path for finding in found)
    return [(finding.severity, finding.message) for finding in found], checks[path].measurements


@pytest.mark.parametrize(
    ("path", "shown", "other", "again"),
    [
        ("swap_video/1_2.mp4", 2, 1, "make it again"),  # still the target's
        ("swap_video/1_2.mp4", 2, 3, "make it again"),  # from a wrong source
        ("avatarify_video/1_2.mp4", 1, 2, "make it again"),
        ("edit_video/age/1.mp4", 1, 4, "make it again"),
        ("face_video/1.mp4", 1, 3, "run `tooling faces` again"),
    ],
)
def test_the_nearest_person_is_shown(path: str, shown: int, other: int, again: str) -> None:
    for share in (0.0, 0.3, 0.5):
        assert findings_of(path, near(shown, other, share))[0] == []
    found, _ = findings_of(path, near(shown, other, 0.8))
    message = f"shows the face of raw_video/{other}.mp4 (distance 0.14), not that of raw_video/{shown}.mp4 (0.57); "
    assert found == [("error", message + again)]
    assert findings_of(path, near(shown, other, 0.8), origin="imported")[0] == [("note", message + again)]


def test_a_swap_with_glasses_may_be_nearer_to_its_target() -> None:
    path = "swap_video/1_2.mp4"
    note = (
        "its face is nearer to that of its target (distance 0.14) than to that of its source (0.57); look at all three"
    )
    for glasses in (["target"], ["source"], ["target", "source"]):
        found, measured = findings_of(path, near(2, 1, 0.8), glasses=glasses)
        assert found == [("note", note)]
        assert measured == pytest.approx({"target_distance": 0.1414, "source_distance": 0.5657}, abs=1e-3)
        found, _ = findings_of(path, near(2, 3, 0.8), glasses=glasses)
        assert found == [
            (
                "error",
                "shows the face of raw_video/3.mp4 (distance 0.14), not that of raw_video/2.mp4 (0.57); make it again",
            )
        ]
    ((severity, _),) = findings_of("avatarify_video/1_2.mp4", near(1, 2, 0.8), glasses=["target"])[0]
    assert severity == "error"


def test_swaps_of_people_who_look_alike_to_the_network_may_be_nearer_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.tooling.stages.verify.test_recognition.PEOPLE", PEOPLE / 2)  # 0.35 apart
    path = "swap_video/1_2.mp4"
    assert [severity for severity, _ in findings_of(path, near(2, 1, 0.8))[0]] == ["note"]
    message = (
        "its face is nearer to that of raw_video/3.mp4 (distance 0.07) than to that of raw_video/2.mp4 (0.28), "
        "where people look alike to the network; look at all three"
    )
    assert findings_of(path, near(2, 3, 0.8))[0] == [("note", message)]
    assert [severity for severity, _ in findings_of("avatarify_video/1_2.mp4", near(1, 3, 0.8))[0]] == ["error"]


def test_both_encoders_have_a_distance_of_their_own() -> None:
    _, measured = findings_of("swap_video/1_2.mp4", near(2, 1, 0.25))
    assert measured == pytest.approx({"target_distance": 0.5303, "source_distance": 0.1768}, abs=1e-3)
    found, measured = findings_of("swap_video/1_2.mp4", near(2, 1, 0.25), Path("arcface.onnx"))
    assert measured == pytest.approx({"target_distance": 0.6838, "source_distance": 0.0513}, abs=1e-3)
    assert found == []
    assert DlibIdentity.limits != OnnxIdentity.limits


def test_nobody_of_the_workspace() -> None:
    found, _ = findings_of("edit_video/hair/1.mp4", np.full(4, -0.3, np.float32))
    message = (
        "its face is at a distance of 0.95 from that of raw_video/1.mp4, which it should show (usually at most 0.6)"
    )
    assert found == [("note", f"{message}; look at both")]


def test_an_image_shows_nobody() -> None:
    path = "GAN_images/000007.png"
    assert findings_of(path, near(2, 3, 0.7)) == (
        [
            (
                "error",
                "its face is at a distance of 0.21 from that of raw_video/3.mp4, that of nobody is at least 0.45; "
                "make it again, with another seed",
            )
        ],
        {"person_distance": 0.2121},  # of half precision
    )
    assert findings_of(path, near(2, 3, 0.7), origin="imported")[0][0][0] == "note"
    assert findings_of(path, np.full(4, -0.3, np.float32)) == ([], {"person_distance": 0.954})


def test_images_are_not_compared_with_people_who_look_alike_to_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.PEOPLE", PEOPLE * 0.6)  # 0.42 apart
    assert findings_of("GAN_images/000007.png", near(2)) == ([], {})


def test_frames_with_the_least_turn_are_embedded() -> None:
    landmarks = np.tile(np.array([[60, 50], [100, 50], [80, 75], [62, 100], [98, 100]], np.float32), (30, 1, 1))
    landmarks[:, 2, 0] += 9
    landmarks[[4, 17, 29], 2, 0] -= 8
    landmarks[11, 2, 0] -= 9  # the best, and not seen
    seen = np.arange(30) != 11
    boxes, squares = np.zeros((30, 4), np.float32), np.ones((30, 3), np.float32)
    assert frontal_frames(FaceTrack(boxes, landmarks, seen, squares, 160, 160)) == {4, 17, 29}
    assert frontal_frames(FaceTrack(boxes, landmarks, np.zeros(30, bool), squares, 160, 160)) == frozenset()


def test_embeddings_are_those_of_dlib_itself() -> None:
    dlib = pytest.importorskip("dlib")
    pytest.importorskip("face_recognition_models")
    noise = np.random.default_rng(5).integers(0, 256, (150, 150, 3), np.uint8)
    crop = np.asarray(cv2.GaussianBlur(noise, (0, 0), 5), np.uint8)
    original = dlib.face_recognition_model_v1(str(DlibIdentity.weights_path())).compute_face_descriptor(crop)
    np.testing.assert_allclose(DlibIdentity()(crop[None])[0], np.array(original), atol=1e-5)


def test_dlib_tells_actors_apart() -> None:
    pytest.importorskip("face_recognition_models")
    encoder = DlibIdentity()

    def embed(seed: int, gender: Gender, motion: int) -> NDArray[np.float32]:
        clip = film_person(seed, gender, RenderSettings(1, width_px=WIDTH, height_px=HEIGHT, motion_seed=motion))
        return np.asarray(encoder(encoder.cut(clip.frames[0], clip.landmarks[0])[None])[0], np.float32)

    first, again, others = embed(1, "male", 1), embed(1, "male", 5), [embed(2, "female", 2), embed(3, "male", 3)]
    own = encoder.distance(first, again)
    assert own < 0.2
    assert all(encoder.distance(one, other) > own + 0.05 for one in (first, again) for other in others)
    assert all(encoder.distance(*pair) > own for pair in combinations(others, 2))
