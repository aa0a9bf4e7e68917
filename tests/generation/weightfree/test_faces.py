"""Full-face generation without weights, its plan of prompts, and the descriptor that finds near-duplicates."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from generation.arrays import Frame
from generation.crops.align import align, transform
from generation.crops.clip import FaceClip
from generation.errors import GenerationError
from generation.faces.detector import detect_faces, load_detector
from generation.generators.loading import load_generator
from generation.generators.prompts import PlannedPrompt, gender_of, plan_prompt
from generation.generators.registry import GENERATORS, LoadOptions, generators_of
from generation.generators.stylegan3.pipeline import Stylegan3Faces
from generation.generators.stylegan3.text_pipeline import Text2Stylegan
from generation.generators.weightfree.faces import VERSION, WeightfreeFaces
from generation.generators.weightfree.portrait.examples import filmed_part
from generation.generators.weightfree.portrait.fitting import Person
from generation.generators.weightfree.portrait.framing import (
    LARGEST_PROPORTIONS,
    SMALLEST_SHARE,
    bend,
    draw_proportions,
    draw_view,
    fit_view,
    unbend,
)
from generation.generators.weightfree.portrait.painting import FIELD_PX, SMALLEST_NOVELTY, Painter
from generation.generators.weightfree.portrait.parts import has_glasses
from generation.generators.weightfree.portrait.reference import FINE_PX, grid_places
from generation.generators.weightfree.portrait.space import REFERENCE
from generation.quality.descriptor import Descriptor, describe_image, distance, find_near_duplicate
from tests.actor_clips import film_person
from tooling.actors import Gender, RenderSettings

SIDE_PX = 160
NUM_FRAMES, EXAMPLES = 6, 4
CAST: tuple[tuple[int, Gender], ...] = ((1, "female"), (2, "male"), (4, "male"), (5, "female"))


def film(seed: int, gender: Gender) -> Person:
    settings = RenderSettings(NUM_FRAMES, fps=2, width_px=480, height_px=360, motion_seed=seed)
    return Person(film_person(seed, gender, settings).face_clip(f"{seed}.mp4"), gender)


def shown(pipeline: WeightfreeFaces, numbers: range) -> list[Frame]:
    plan = [plan_prompt(number) for number in numbers]
    return list(pipeline.make_images([one.text for one in plan], [one.seed for one in plan]))


@pytest.fixture(scope="module")
def cast() -> list[Person]:
    return [film(*who) for who in CAST]


@pytest.fixture(scope="module")
def pipeline(cast: list[Person]) -> WeightfreeFaces:
    return WeightfreeFaces.fit(cast, side_px=SIDE_PX, examples_per_person=EXAMPLES)


@pytest.fixture(scope="module")
def images(pipeline: WeightfreeFaces) -> list[Frame]:
    return shown(pipeline, range(1, 101))


@pytest.fixture(scope="module")
def portraits(cast: list[Person]) -> list[Frame]:
    """A real picture of each person, as a camera would frame it."""
    firsts = [(next(iter(one.clip.frames())), one.clip.landmarks[0]) for one in cast]
    return [align(frame, landmarks, 350, "portrait")[0] for frame, landmarks in firsts]


def test_it_is_the_family_s_default() -> None:
    assert generators_of("full_face_generation")[0] == "weightfree-faces"
    assert GENERATORS["weightfree-faces"].is_fitted


def test_the_same_people_give_the_same_space(cast: list[Person], pipeline: WeightfreeFaces) -> None:
    again = WeightfreeFaces.fit(cast, side_px=SIDE_PX, examples_per_person=EXAMPLES).face_space.state_dict()
    for name, value in pipeline.face_space.state_dict().items():
        assert torch.equal(value, again[name]), name


def test_an_image_depends_on_its_prompt_and_seed_only(pipeline: WeightfreeFaces, images: list[Frame]) -> None:
    for number in (1, 7, 30):
        one = plan_prompt(number)
        generator = torch.Generator().manual_seed(one.seed)
        (alone,) = pipeline(one.text, generator=generator, output_type="np", return_dict=False)
        assert np.array_equal(alone[0], images[number - 1])


def test_a_hundred_images_are_distinct(images: list[Frame]) -> None:
    described = [describe_image(image) for image in images]
    distances = [distance(*pair) for pair in itertools.combinations(described, 2)]
    assert min(distances) > 0.2
    assert float(np.median(distances)) > 4
    # From four people's sixteen examples a few come out near to each other; whoever makes a set rejects those.
    found = [find_near_duplicate(one, described[:number]) for number, one in enumerate(described)]
    assert sum(number is not None for number in found) < 12


def test_no_image_is_a_training_face(pipeline: WeightfreeFaces, images: list[Frame], portraits: list[Frame]) -> None:
    known = [describe_image(np.ascontiguousarray(portrait)) for portrait in portraits]
    painter = Painter(pipeline.face_space, SIDE_PX)
    for number in range(1, 41):
        described = describe_image(images[number - 1])
        assert find_near_duplicate(described, [*known, *painter.descriptors]) is None
    for number in range(1, 13):
        one = plan_prompt(number)
        random = np.random.default_rng([one.seed, 0])
        draw = painter.draw(one.text, random)
        image = painter.render(draw, random)
        assert painter.is_new(image, draw) == np.array_equal(image, images[number - 1])


def test_a_training_face_is_refused(pipeline: WeightfreeFaces) -> None:
    painter = Painter(pipeline.face_space, SIDE_PX)
    measured = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        draw = painter.draw("", random)
        person = painter.people[draw.base]
        draw.shape[:], draw.tone[:] = painter.values["shape_codes"][person], painter.values["tone_codes"][person]
        draw.donors.clear()
        draw.changes[:], draw.light[:], draw.backdrop[:] = 0, 0, 0
        image = painter.render(draw, random)
        measured.append(painter.novelty(image, draw))
        assert measured[-1] < SMALLEST_NOVELTY
        assert not painter.is_new(image, draw)
    assert np.median(measured) < 0.8 * SMALLEST_NOVELTY


def test_every_image_shows_one_face(images: list[Frame]) -> None:
    large = [np.asarray(cv2.resize(image, (320, 320)), np.uint8) for image in images[:12]]
    assert [len(found) for found in detect_faces(load_detector(), large)] == [1] * 12


def test_the_prompt_s_gender_chooses_the_head(pipeline: WeightfreeFaces) -> None:
    painter = Painter(pipeline.face_space, SIDE_PX)
    for seed, (prompt, wanted) in itertools.product(range(20), (("a woman", "female"), ("an old man", "male"))):
        draw = painter.draw(prompt, np.random.default_rng(seed))
        assert CAST[painter.people[draw.base]][1] == wanted


def test_every_portrait_mixes_people(pipeline: WeightfreeFaces) -> None:
    painter = Painter(pipeline.face_space, SIDE_PX)
    for seed in range(40):
        draw = painter.draw("", np.random.default_rng(seed))
        people = painter.people[[draw.base, *draw.donors.values()]]
        assert painter.people[draw.base] not in people[1:]
        assert {name.split("_")[0] for name in draw.donors} == {"eyes", "nose", "mouth"}
        assert len(set(people)) >= 3
        assert np.abs(draw.proportions / LARGEST_PROPORTIONS).min() >= SMALLEST_SHARE - 1e-6


def test_lips_and_brows_are_exchanged_wholly(pipeline: WeightfreeFaces) -> None:
    painter = Painter(pipeline.face_space, SIDE_PX)
    draw = next(
        found
        for found in (painter.draw("", np.random.default_rng(seed)) for seed in range(40))
        if {"eyes", "mouth"} <= found.donors.keys()
    )
    unit = float(REFERENCE[1, 0] - REFERENCE[0, 0])
    lips = np.abs(grid_places() - REFERENCE[3:].mean(0)) / unit < [0.42, 0.18]
    brows = np.abs(grid_places() - REFERENCE[:2].mean(0) + [0, 0.3 * unit]) / unit < [0.6, 0.08]
    assert painter.region("mouth", draw)[lips.all(-1)].min() > 0.9
    assert painter.region("eyes", draw)[brows.all(-1)].min() > 0.9


def test_pale_skin_is_darkened_without_a_red_glow(pipeline: WeightfreeFaces) -> None:
    painter = Painter(pipeline.face_space, SIDE_PX)
    pale, dark = np.array([0.93, 0.75, 0.68], np.float32), np.array([0.55, 0.38, 0.31], np.float32)
    painter.lights[0], painter.lights[1], painter.skins[0] = pale, dark, 1
    highlight = np.full((SIDE_PX, SIDE_PX, 3), (1.0, 0.9, 0.85), np.float32)
    box = slice(0, SIDE_PX), slice(0, SIDE_PX)
    lit = painter.lit_part(highlight, 0, 1, grid_places(FIELD_PX), box).mean((0, 1))
    assert lit[0] / lit[1] < dark[0] / dark[1]
    assert lit[0] < 0.7


def test_the_prompt_s_light_comes_from_its_side(pipeline: WeightfreeFaces) -> None:
    text = "a woman, soft light from the {}"
    left, right = (
        pipeline.make_images([text.format(side)] * 12, range(12)).astype(float) for side in ("left", "right")
    )
    half = SIDE_PX // 2
    lean = [images[:, :, half:].mean() - images[:, :, :half].mean() for images in (left, right)]
    assert lean[0] < -5 < 5 < lean[1]


def test_even_light_has_no_side_and_warm_light_is_warmer(pipeline: WeightfreeFaces) -> None:
    painter = Painter(pipeline.face_space, SIDE_PX)
    painter.leans[:] = 1.0  # all examples are lit from the right, or if they are mirrored from the left
    slopes = {
        text: [painter.draw(text, np.random.default_rng(seed)).light for seed in range(20)]
        for text in ("a face", "even light", "warm light")
    }
    added = {text: np.array([light[1].mean() for light in lights]) for text, lights in slopes.items()}
    assert np.abs(added["a face"]).max() < 0.5 < np.abs(added["even light"]).min()
    warmth = {text: np.mean([light[0, 0] - light[0, 2] for light in lights]) for text, lights in slopes.items()}
    assert warmth["warm light"] > warmth["even light"] + 0.3


def test_saved_and_loaded_it_makes_the_same_bytes(
    pipeline: WeightfreeFaces, images: list[Frame], tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path)
    loaded = load_generator("weightfree-faces", LoadOptions(weights=str(tmp_path)))
    assert loaded.parameters == pipeline.parameters == {"side_px": SIDE_PX, "version": VERSION}
    assert np.array_equal(shown(loaded, range(1, 6)), images[:5])
    assert WeightfreeFaces.is_current(tmp_path)
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({n: v for n, v in json.loads(index.read_text()).items() if n != "version"}))
    assert not WeightfreeFaces.is_current(tmp_path)  # saved before versions were counted


def test_two_people_of_unknown_or_other_gender_are_enough(cast: list[Person]) -> None:
    for people in ([Person(one.clip) for one in cast[:2]], cast[:2]):
        pipeline = WeightfreeFaces.fit(people, side_px=96, examples_per_person=2)
        assert np.std(shown(pipeline, range(1, 5)), axis=0).mean() > 10


def test_what_cannot_be_fitted_is_refused(cast: list[Person]) -> None:
    with pytest.raises(GenerationError, match="1 people to fit faces to"):
        WeightfreeFaces.fit(cast[:1])
    with pytest.raises(GenerationError, match=r"1\.mp4: gender 'm'"):
        WeightfreeFaces.fit([Person(cast[0].clip, "m"), cast[1]])
    with pytest.raises(GenerationError, match="not fitted"):
        load_generator("weightfree-faces").make_images(["a face"], [0])


# Examples


def barred(person: Person, sides: tuple[int, int, int, int]) -> Person:
    """A person's clip within black bars, px at top, bottom, left and right, that an encoder has left almost black."""
    top, _, left, _ = sides
    random = np.random.default_rng(0)

    def frames() -> Iterator[Frame]:
        for frame in person.clip.frames():
            padded = cv2.copyMakeBorder(frame[:, 110:370], *sides, cv2.BORDER_CONSTANT).astype(int)
            yield np.clip(padded + random.integers(0, 3, padded.shape), 0, 255).astype(np.uint8)

    landmarks = person.clip.landmarks + np.array([left - 110, top], np.float32)
    return Person(FaceClip(person.clip.name, frames, landmarks), person.gender)


def test_black_bars_are_no_part_of_a_portrait(cast: list[Person]) -> None:
    sides = (0, 0, 110, 110)
    people = [barred(person, sides) for person in cast[::3]]
    assert filmed_part(list(people[0].clip.frames())) == (slice(0, 360), slice(112, 368))
    pipeline = WeightfreeFaces.fit(people, side_px=96, examples_per_person=2)
    for image in shown(pipeline, range(1, 13)):
        edges = (image[:, 0], image[:, -1], image[0], image[-1])
        assert min(float(edge.max(-1).mean()) for edge in edges) > 30
    assert filmed_part(list(barred(cast[0], (20, 30, 0, 0)).clip.frames())) == (slice(22, 378), slice(0, 260))


def test_a_black_backdrop_is_no_bar(cast: list[Person]) -> None:
    frame = next(iter(cast[0].clip.frames())).copy()
    rows, columns = np.indices(frame.shape[:2])
    frame[np.hypot(rows - 180, columns - 240) > 150] = 2  # a head before black
    assert filmed_part([frame]) == (slice(0, 360), slice(0, 480))


def test_a_camera_shows_only_what_was_filmed() -> None:
    random = np.random.default_rng(1)
    fits = 0
    for _ in range(200):
        turn = np.deg2rad(random.uniform(-8, 8))
        scale = random.uniform(0.9, 2.4)
        to_picture = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        matrix = np.hstack([to_picture, (random.uniform(0.4, 0.6, 2) - to_picture.sum(1) / 2)[:, None]])
        view = fit_view(draw_view(random), matrix.astype(np.float32))
        if view is None:
            continue
        fits += 1
        corners = transform(matrix, transform(view.camera, np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)))
        assert 0 <= corners.min() <= corners.max() <= 1
    assert 80 < fits < 180  # some were filmed from too near by


def test_proportions_change_a_head_and_are_undone() -> None:
    proportions = draw_proportions(np.random.default_rng(0))
    places = grid_places(48)
    bent = bend(places, proportions)
    assert np.abs(bent - places).max() > 0.005
    assert np.abs(bent[0] - places[0]).max() < 0.015  # at the picture's edge nothing moves
    assert np.abs(unbend(bent, proportions) - places).max() < 1e-3


@pytest.mark.parametrize(("shade", "has_rims"), [(None, False), (205, True), (110, True)])
def test_wire_rims_are_glasses(shade: int | None, has_rims: bool) -> None:
    face = np.full((FINE_PX, FINE_PX), 170, np.uint8)
    unit = float(REFERENCE[1, 0] - REFERENCE[0, 0]) * FINE_PX
    for eye in REFERENCE[:2] * FINE_PX:
        cv2.circle(face, eye.astype(int).tolist(), round(0.42 * unit), shade or 170, 2)
    (bridge_x, bridge_y) = (REFERENCE[:2].mean(0) * FINE_PX).astype(int)
    cv2.line(face, (bridge_x - 8, bridge_y), (bridge_x + 8, bridge_y), shade or 170, 2)
    # In one frame of three a blink or blur hides them.
    greys = [np.asarray(cv2.GaussianBlur(face, (0, 0), sigma), np.uint8) for sigma in (0.5, 0.8, 6.0)]
    assert has_glasses(greys, np.zeros(3, np.int64)).tolist() == [has_rims] * 3


# The plan


@pytest.mark.parametrize("num_images", [2, 24, 333])
def test_the_plan_is_balanced(num_images: int) -> None:
    plan = [plan_prompt(number) for number in range(1, num_images + 1)]
    assert len({one.seed for one in plan}) == num_images
    genders = Counter(one.attributes["gender"] for one in plan)
    assert abs(genders["male"] - genders["female"]) <= 1
    for gender, name in itertools.product(genders, ("age", "hair", "expression", "light")):
        counts = Counter(one.attributes[name] for one in plan if one.attributes["gender"] == gender)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_the_plan_depends_on_number_and_seed_only() -> None:
    assert plan_prompt(17) == plan_prompt(17)
    assert plan_prompt(17).seed != plan_prompt(17, seed=1).seed
    plans: list[list[PlannedPrompt]] = [[plan_prompt(number, seed) for number in range(1, 50)] for seed in (0, 1)]
    assert [one.text for one in plans[0]] != [one.text for one in plans[1]]
    with pytest.raises(ValueError, match="numbered from 1"):
        plan_prompt(0)


def test_attributes_are_independent() -> None:
    plan = [plan_prompt(number).attributes for number in range(1, 2401)]
    for one, other in itertools.combinations(("age", "expression", "light"), 2):
        counts = np.array(list(Counter((each[one], each[other]) for each in plan).values()))
        assert counts.min() > 0.75 * counts.mean()
        assert counts.max() < 1.25 * counts.mean()


def test_of_a_prompt_only_what_is_followed_remains() -> None:
    planned = plan_prompt(2)
    assert planned.limited_to(Text2Stylegan.followed_attributes()) == planned
    light = planned.attributes["light"]
    followed = planned.limited_to(WeightfreeFaces.followed_attributes({"male", "female"}))
    assert followed.text == f"portrait photograph of a woman, {light}"
    assert followed.attributes == {"gender": "female", "light": light}
    alike = planned.limited_to(WeightfreeFaces.followed_attributes({"female"}))
    assert (alike.text, alike.attributes) == (f"portrait photograph of a person, {light}", {"light": light})
    unread = planned.limited_to(Stylegan3Faces.followed_attributes())
    assert (unread.text, unread.attributes) == ("", {})
    assert (followed.number, followed.seed) == (planned.number, planned.seed)
    assert planned.limited_to({"age"}).text.startswith("portrait photograph of a person in the ")


def test_gender_is_read_from_a_prompt() -> None:
    assert gender_of("portrait of a Woman") == "female"
    assert gender_of("a man in his thirties") == "male"
    assert gender_of("a human face") is gender_of("a man and a woman") is None
    for number in range(1, 40):
        one = plan_prompt(number)
        assert gender_of(one.text) == one.attributes["gender"]


# Near-duplicates


def changed(image: Frame) -> dict[str, Frame]:
    cut = round(0.03 * len(image))
    jpeg = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)
    return {
        "encoded again": np.asarray(jpeg, np.uint8),
        "half the size": np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8),
        "cut": np.ascontiguousarray(image[cut:-cut, cut:-cut]),
        "brighter": np.clip(image * 1.25 + 5.0, 0, 255).astype(np.uint8),
        "darker": (image * 0.75).astype(np.uint8),
    }


def test_near_duplicates_are_found_and_people_told_apart(portraits: list[Frame]) -> None:
    described = [describe_image(portrait) for portrait in portraits]
    for number, portrait in enumerate(portraits):
        for what, image in changed(portrait).items():
            assert find_near_duplicate(describe_image(image), described) == number, what
        assert find_near_duplicate(described[number], described[:number] + described[number + 1 :]) is None
    for one, other in itertools.combinations(described, 2):
        assert distance(one, other) == distance(other, one) > 2
        assert distance(one, one) == pytest.approx(0, abs=0.01)


def test_descriptor_of_flat_and_tiny_pictures() -> None:
    flat: NDArray[np.uint8] = np.full((5, 9, 3), 120, np.uint8)
    described = describe_image(flat)
    assert isinstance(described, Descriptor)
    assert find_near_duplicate(described, []) is None
