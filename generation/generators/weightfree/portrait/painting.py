"""Draws and paints portraits from a fitted space of faces; see `generation.generators.weightfree.faces`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from generation.arrays import Floats, Frame
from generation.crops import blending
from generation.crops.align import transform
from generation.errors import GenerationError
from generation.generators.prompts import gender_of
from generation.generators.weightfree.portrait.framing import (
    STILL,
    VIEW,
    View,
    bend,
    draw_proportions,
    draw_view,
    fit_view,
    unbend,
)
from generation.generators.weightfree.portrait.reference import (
    core_masks,
    grid_places,
    light_of,
    logit,
    region_masks,
    sample,
    skin_of,
    tone,
)
from generation.generators.weightfree.portrait.space import (
    GENDER_CODES,
    GRID_PX,
    MATTES,
    REFERENCE,
    REGIONS,
    TO_CROP,
    FaceSpace,
)
from generation.quality.descriptor import Descriptor, describe_image, find_near_duplicate
from generation.smoothing import smoothstep

MOST_DRAWS = 40
MOST_CASTS = 12  # choices of examples, of which the first that fits well is taken, else the best
FIELD_PX = 96  # grid of the finished picture on which places are computed
INVERSION_ROUNDS = 6
OWN_SHAPE = 0.4  # of a region's own bends that it keeps in the drawn shape
OWN_EYES_STRENGTH = 1.6  # of changes of proportion around eyes that stay, which say most about a person
LARGEST_CODE = 1.8  # standard deviations
SEAM_SOFTNESS = 0.12  # logits
LARGEST_SEAM = 0.9
DARKENING = (0.1, 0.5)  # see `blending.relight`: highlights of pale skin would be left as a red glow
OTHERS_LIGHT = 0.4  # of the light that brightens skin, by which eyes, brows and teeth grow brighter too
LARGEST_BEND = 0.016  # of the picture's side; about a tenth of the distance between the eyes
LARGEST_STRETCH = 0.05  # change of that from point to point
# Logits by which the colours of `MATTES` vary, all channels alike and each by itself.
GREY_SPREAD = np.array([[0.5], [0.2], [0.5]])
HUE_SPREAD = np.array([[0.10], [0.0], [0.18]])
LARGEST_COLOUR = 0.9
LARGEST_COMPLEXION, LARGEST_TINT = 0.3, 0.12
LARGEST_SHADING = 0.3
LARGEST_SLOPE = 1.6  # logits from side to side of the background
SIDE_LIGHT, LARGEST_LEAN = 0.7, 1.2  # logits from side to side: of light from a side, and of what is evened out
GRAIN = 0.005  # of white
TONE_SHARE = 0.6
COMPARED_BLUR = 1.6  # places of the reference face
SMALLEST_NOVELTY = 0.3  # of the usual difference between two people


Box = tuple[slice, slice]


@dataclass(frozen=True)
class Draw:
    """Everything that is drawn for a portrait.

    Attributes:
        base: number of the example that gives head, hair and shoulders.
        donors: region -> number of the example that gives it.
        shape: float32 (K,), tone: float32 (K,), codes.
        camera: float32 (2, 3), from shares of the picture's side to shares of an example's.
        proportions: float32, see `generation.generators.weightfree.portrait.framing.bend`.
        changes: float32 (len(MATTES) + 1, 3), logits added to the mattes' colours and, last, to the skin's.
        light: float32 (3, 3), logits added: everywhere, growing to the right, growing downwards.
        backdrop: float32 (2,), logits added to the background's light: growing to the right, growing downwards.
    """

    base: int
    donors: dict[str, int]
    shape: Floats
    tone: Floats
    camera: Floats
    proportions: Floats
    changes: Floats
    light: Floats
    backdrop: Floats


class Painter:
    """A space with what is computed from it once."""

    def __init__(self, space: FaceSpace, side_px: int) -> None:
        self.space, self.side_px = space, side_px
        values = {name: value.cpu() for name, value in space.state_dict().items()}
        self.values = {n: (v.float() if v.is_floating_point() else v).numpy() for n, v in values.items()}
        self.people = self.values["people"]
        self.textures: Floats = self.values["textures"]
        self.lights = np.stack([light_of(texture) for texture in self.textures])
        self.skins = np.stack([skin_of(texture) for texture in self.textures])
        self.tones = np.stack([tone(texture) for texture in self.textures])
        self.masks = dict(zip(REGIONS, region_masks(), strict=True))
        self.cores = dict(zip(REGIONS, core_masks(), strict=True))
        self.outline = blending.face_outline(REFERENCE, 0.5)
        self.compared = blending.face_outline(REFERENCE, 0.3, shrink=0.85)
        self.bare = self.outline * (1 - 0.85 * blending.feature_areas(REFERENCE))
        self.leans = _leans(self.lights, self.skins)
        views = [fit_view(STILL, matrix) for matrix in self.values["to_picture"]]
        self.tight = {int(self.people[number]) for number, view in enumerate(views) if view is None}
        mean_light = logit(self.lights)[:, 16:48, 16:48].mean((1, 2))
        count = len(self.values["genders"])
        self.complexions = np.stack([mean_light[self.people == number].mean(0) for number in range(count)])

    @cached_property
    def descriptors(self) -> list[Descriptor]:
        """Of the examples, seen as a camera that does not move sees them."""
        return [describe_image(self._seen(crop, STILL.camera)) for crop in self.values["crops"]]

    @cached_property
    def usual_difference(self) -> float:
        """Median difference between the faces of two people."""
        faces = self._faces
        pairs = [
            _difference(faces[a], faces[b])
            for a, b in np.ndindex(len(faces), len(faces))
            if self.people[a] < self.people[b]
        ]
        return float(np.median(pairs))

    @cached_property
    def _faces(self) -> Floats:
        return np.stack([self._face(texture) for texture in self.textures])

    def paint(self, prompt: str, seed: int) -> Frame:
        """The portrait of a prompt and a seed, RGB uint8 (S, S, 3)."""
        for attempt in range(MOST_DRAWS):
            random = np.random.default_rng([seed, attempt])
            draw = self.draw(prompt, random)
            image = self.render(draw, random)
            if self.is_new(image, draw):
                return image
        raise GenerationError(
            f"seed {seed}: {MOST_DRAWS} draws came too near to an example; fit the space to more people"
        )

    # Drawing

    def draw(self, prompt: str, random: np.random.Generator) -> Draw:
        """Draws everything that the portrait is made of."""
        allowed = self._allowed(prompt)
        base, donors = self._cast(allowed, random)
        shape, tones = (self._code(self.values[f"{name}_codes"], allowed, random) for name in ("shape", "tone"))
        drawn, to_picture = draw_view(random), self.values["to_picture"][base]
        view = fit_view(drawn, to_picture) or fit_view(STILL, to_picture) or drawn
        grey, hue = random.normal(0, 1, (len(MATTES), 1)), random.normal(0, 1, (len(MATTES), 3))
        colours = np.clip(GREY_SPREAD * grey + HUE_SPREAD * hue, -LARGEST_COLOUR, LARGEST_COLOUR)
        skin = self._code(self.complexions, allowed, random) - self.complexions[self.people[base]]
        lighter = np.clip(skin.mean(), -LARGEST_COMPLEXION, LARGEST_COMPLEXION)
        skin = lighter + np.clip(skin - skin.mean(), -LARGEST_TINT, LARGEST_TINT)
        changes = np.vstack([colours, skin]).astype(np.float32)
        backdrop = random.uniform(-LARGEST_SLOPE, LARGEST_SLOPE, 2).astype(np.float32)
        light = _light(prompt, self._lean(base, view), random)
        keeps_eyes = not donors.keys() & {"eyes", "eyes_below_fringe"}
        proportions = draw_proportions(random, OWN_EYES_STRENGTH if keeps_eyes else 1.0)
        return Draw(base, donors, shape, tones, view.camera, proportions, changes, light, backdrop)

    def _lean(self, base: int, view: View) -> float:
        """How much lighter the right side of an example's face is, logits from side to side of the picture."""
        return float(self.leans[base] / np.exp(view.zoom)) * (-1 if view.is_mirrored else 1)

    def _allowed(self, prompt: str) -> NDArray[np.intp]:
        """The people that a prompt's gender asks for; all where there is none of it."""
        requested, genders = gender_of(prompt), self.values["genders"]
        found = np.flatnonzero(genders == GENDER_CODES[requested or ""]) if requested else np.arange(0)
        return found if len(found) else np.arange(len(genders))

    def _code(self, codes: Floats, allowed: NDArray[np.intp], random: np.random.Generator) -> Floats:
        """A sample of the Gaussian of some people's codes (N, K): float32 (K,)."""
        some = codes[allowed] if len(allowed) > 1 else codes
        centre = codes[allowed].mean(0)
        weights = np.clip(random.normal(0, 1, len(some)), -LARGEST_CODE, LARGEST_CODE)
        return np.asarray(centre + weights @ (some - some.mean(0)) / np.sqrt(len(some) - 1), np.float32)

    def _cast(self, allowed: NDArray[np.intp], random: np.random.Generator) -> tuple[int, dict[str, int]]:
        """Examples of different people that fit together: one that gives the head, and one for each region."""
        best: tuple[float, int, dict[str, int]] = (np.inf, 0, {})
        heads = self._heads(allowed)
        for _ in range(MOST_CASTS):
            base = int(random.choice(np.flatnonzero(self.people == random.choice(heads))))
            donors, cost = self._donors(base, allowed, random)
            if cost < best[0]:
                best = cost, base, donors
            if cost <= LARGEST_SEAM:
                break
        return best[1:]

    def _heads(self, allowed: NDArray[np.intp]) -> NDArray[np.intp]:
        """Of the people allowed those whose head can be shown: without glasses, and filmed with room around it."""
        glasses = np.array([self.values["has_glasses"][self.people == who].any() for who in allowed])
        tight = np.array([who in self.tight for who in allowed])
        for is_good in (~glasses & ~tight, ~tight, ~glasses):
            if is_good.any():
                return np.asarray(allowed[is_good])
        return allowed

    def _donors(
        self, base: int, allowed: NDArray[np.intp], random: np.random.Generator
    ) -> tuple[dict[str, int], float]:
        """An example for each region, each of another person while there are enough, and how badly the worst fits.

        Rims of glasses cannot be cut through: the eyes behind them stay, and nobody else's are set beside a nose that
        carries some. Where people are few, noses and mouths are of any gender.
        """
        glasses = self.values["has_glasses"]
        is_other, is_allowed = self.people != self.people[base], np.isin(self.people, allowed)
        donors: dict[str, int] = {}
        used: list[int] = []
        worst = 0.0
        for region in ("eyes", "mouth", "nose"):
            usable = is_other if region == "mouth" else is_other & (glasses == glasses[base])
            if region == "eyes" and glasses[base]:
                continue
            fresh = usable & ~np.isin(self.people, used)
            tiers = (fresh & is_allowed, fresh, usable & is_allowed, usable)
            offered = next((np.flatnonzero(tier) for tier in tiers if tier.any()), None)
            if offered is None:
                continue
            chosen, cost = self._donor(region, base, offered, random)
            fringed = self.values["is_fringed"]
            donors["eyes_below_fringe" if region == "eyes" and (fringed[base] or fringed[chosen]) else region] = chosen
            used.append(int(self.people[chosen]))
            worst = max(worst, cost)
        return donors, worst

    def _donor(
        self, region: str, base: int, offered: NDArray[np.intp], random: np.random.Generator
    ) -> tuple[int, float]:
        """One of the examples offered, the likelier the better it fits, and its cost."""
        costs = self.values["seams"][REGIONS.index(region), base, offered]
        if region == "eyes":
            fringed = self.values["is_fringed"]
            low = self.values["seams"][REGIONS.index("eyes_below_fringe"), base, offered]
            costs = np.where(fringed[base] | fringed[offered], low, costs)
        odds = np.exp(-(costs - costs.min()) / SEAM_SOFTNESS)
        place = int(random.choice(len(offered), p=odds / odds.sum()))
        return int(offered[place]), float(costs[place])

    # Rendering

    def render(self, draw: Draw, random: np.random.Generator) -> Frame:
        """Paints what was drawn: RGB uint8 (S, S, 3)."""
        offsets = self.values["offsets"]
        picture = bend(transform(draw.camera, grid_places(FIELD_PX)), draw.proportions)
        requested = self._drawn_offset(draw)
        face = _inverted(picture, requested)
        base_places = transform(TO_CROP, face) + sample(offsets[draw.base], face, is_grid=True)
        base_places = picture + _inside(face) * (base_places - picture)
        image = self._crop(draw.base, base_places)
        for region, donor in draw.donors.items():
            mask = sample(self.region(region, draw), face, is_grid=True) * _inside(face)[..., 0]
            mask = blending.enlarge(mask, self.side_px)[..., None]
            if not mask.any():
                continue
            box = _box(mask)
            places = transform(TO_CROP, face) + sample(self._donor_offset(region, donor, requested), face, is_grid=True)
            part = self.lit_part(self._crop(donor, places, box), donor, draw.base, face, box)
            image[box] += mask[box] * (part - image[box])
        image = self._relit(image, self._changes(draw, face, base_places))
        return self._finished(image, random)

    def _drawn_offset(self, draw: Draw) -> Floats:
        """The base's offset, with the drawn shape instead of its person's own."""
        codes = (draw.shape, self.values["shape_codes"][self.people[draw.base]])
        modes = self.values["shape_modes"]
        drawn, own = (np.tensordot(code, modes, 1) for code in codes)
        bend = drawn - own
        stretch = max(float(np.abs(np.diff(bend, axis=axis)).max()) for axis in (0, 1)) * GRID_PX
        reach = float(np.linalg.norm(bend, axis=-1).max())
        bend *= min(1.0, LARGEST_BEND / max(reach, 1e-6), LARGEST_STRETCH / max(stretch, 1e-6))
        return np.asarray(self.values["offsets"][draw.base] + bend, np.float32)

    def _donor_offset(self, region: str, donor: int, requested: Floats) -> Floats:
        """Where a region is in its donor: moved to the drawn position, bent only partly to the drawn shape."""
        own, mask = self.values["offsets"][donor], self.masks[region][..., None]
        own_middle, middle = ((field * mask).sum((0, 1)) / mask.sum() for field in (own, requested))
        bent = OWN_SHAPE * (own - own_middle) + (1 - OWN_SHAPE) * (requested - middle)
        return np.asarray(own_middle + bent, np.float32)

    def region(self, region: str, draw: Draw) -> Floats:
        """How much of each place of the reference face a region's donor gives: float32 (G, G).

        All of the features, so that no second brow or lip stays beside them; around them only what is skin in both.
        """
        own, other = (blending.fill_thin(self.skins[number]) for number in (draw.base, draw.donors[region]))
        return np.asarray(np.maximum(self.cores[region], self.masks[region] * np.minimum(own, other)), np.float32)

    def lit_part(self, part: Floats, donor: int, base: int, face: Floats, box: Box) -> Floats:
        """Brings a part of a donor (h, w, 3) into the base's light.

        Colours are multiplied where they grow darker, as `blending.relight` does far down: its curve leaves white as it
        is, and highlights of pale skin would glow red on darker skin. Where skin grows lighter, the dark of eyes and
        brows hardly does.
        """
        here, light, skin = self.lights[donor], self.lights[base], self.skins[donor]
        change = blending.light_change(here, light, np.maximum(skin, 1 - self.cores["eyes"]))
        spared = (1 - OTHERS_LIGHT) * self.cores["eyes"] * (1 - skin)
        change = np.where(change > 0, 1 - spared[..., None], 1) * change
        dark = smoothstep(*DARKENING, -change.mean(2))
        gain = light / np.maximum(here, 0.02)
        odds, gain, dark = (
            blending.enlarge(sample(field, face, is_grid=True), self.side_px)[box]
            for field in (np.exp(change), gain, dark)
        )
        lit = blending.apply_odds(part, odds)
        return np.asarray(lit + dark[..., None] * (gain * part - lit), np.float32)

    def _crop(self, example: int, places: Floats, box: Box | None = None) -> Floats:
        """An example seen at places (F, F, 2), shares of its side: RGB float32 [0, 1] (S, S, 3), or of it a box."""
        crop = self.values["crops"][example]
        at = blending.enlarge(np.asarray(places * len(crop), np.float32), self.side_px)
        at = at if box is None else np.ascontiguousarray(at[box])
        seen = cv2.remap(crop, at[..., 0], at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        # uint8 [0, 255] -> float32 [0, 1]
        return np.asarray(seen, np.float32) / np.float32(255)

    def _seen(self, crop: Frame, camera: Floats) -> Frame:
        at = transform(camera, grid_places(self.side_px)) * np.float32(len(crop))
        return np.asarray(cv2.remap(crop, at[..., 0], at[..., 1], cv2.INTER_AREA | cv2.INTER_LINEAR), np.uint8)

    def _relit(self, image: Floats, change: Floats) -> Floats:
        odds = np.asarray(np.exp(blending.enlarge(change, self.side_px)), np.float32)
        return blending.apply_odds(image, odds)

    def _changes(self, draw: Draw, face: Floats, base_places: Floats) -> Floats:
        """All changes of colour and light, logits: float32 (F, F, 3)."""
        mattes = sample(self.values["mattes"][draw.base], base_places, is_grid=True) / 255
        skin = np.clip(1 - mattes.sum(-1, keepdims=True), 0, 1)
        change = np.concatenate([mattes, skin], -1) @ draw.changes
        # Of the face's own shading, a share of the drawn one takes the place.
        drawn = self.values["tone_mean"] + np.tensordot(draw.tone, self.values["tone_modes"], 1)
        shading = TONE_SHARE * self.bare[..., None] * (drawn - self.tones[draw.base]).mean(-1, keepdims=True)
        change += sample(
            np.repeat(np.clip(shading, -LARGEST_SHADING, LARGEST_SHADING), 3, -1), face, is_grid=True
        ) * _inside(face)
        here = grid_places(FIELD_PX) - 0.5
        light = draw.light[0] + here[..., :1] * draw.light[1] + here[..., 1:] * draw.light[2]
        return np.asarray(change + light, np.float32)

    def _finished(self, image: Floats, random: np.random.Generator) -> Frame:
        noise = random.standard_normal((self.side_px, self.side_px), np.float32)
        image = image + np.float32(GRAIN) * cv2.GaussianBlur(noise, (0, 0), 0.6)[..., None]
        # float32 [0, 1] -> uint8
        return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)

    # Novelty

    def is_new(self, image: Frame, draw: Draw) -> bool:
        """Whether neither the picture nor the face is that of an example."""
        if find_near_duplicate(describe_image(image), self.descriptors) is not None:
            return False
        return self.novelty(image, draw) >= SMALLEST_NOVELTY

    def novelty(self, image: Frame, draw: Draw) -> float:
        """Difference of a finished face from the nearest example's, as a share of that usual between two people."""
        places = transform(TO_CROP, grid_places()) + self._drawn_offset(draw)
        places = transform(cv2.invertAffineTransform(draw.camera).astype(np.float32), unbend(places, draw.proportions))
        texture = sample(cv2.GaussianBlur(image, (0, 0), 0.4 * self.side_px / GRID_PX), places, is_grid=False) / 255
        face = self._face(np.asarray(texture, np.float32))
        return min(_difference(face, other) for other in self._faces) / self.usual_difference

    def _face(self, texture: Floats) -> Floats:
        """A face's features, without light and finest detail: float32 (G, G, 3)."""
        smooth = logit(np.asarray(cv2.GaussianBlur(texture, (0, 0), COMPARED_BLUR), np.float32))
        light = cv2.GaussianBlur(smooth, (0, 0), blending.LIGHT_SCALE * GRID_PX)
        return np.asarray(self.compared[..., None] * (smooth - light), np.float32)


def _box(mask: Floats) -> Box:
    """Rows and columns in which a mask (S, S, 1) is not 0."""
    rows, columns = (np.flatnonzero(mask[..., 0].any(axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _difference(first: Floats, second: Floats) -> float:
    return float(np.sqrt(np.square(first - second).mean()))


def _light(prompt: str, lean: float, random: np.random.Generator) -> Floats:
    """Logits of the light that a prompt asks for, with some chance: float32 (3, 3), see `Draw.light`.

    Args:
        prompt: of which the direction of light and its warmth are read.
        lean: of the example's own light, which makes way for the direction that is asked for.
        random: of the portrait.
    """
    light = np.zeros((3, 3))
    light[0] = random.normal(0, 0.12) + random.normal(0, 0.03, 3)
    light[1] = random.normal(0, 0.08)
    light[2] = random.normal(0, 0.08)
    text = prompt.lower()
    is_right, is_left = ("light from the right" in text), ("light from the left" in text)
    if is_right or is_left or "even light" in text:
        light[1] += SIDE_LIGHT * (float(is_right) - float(is_left)) - np.clip(lean, -LARGEST_LEAN, LARGEST_LEAN)
    if "warm" in text:
        light[0] += [0.18, 0.0, -0.22]
    return light.astype(np.float32)


def _leans(lights: Floats, skins: Floats) -> Floats:
    """How much lighter each face (E, G, G, 3) grows to the right, logits from side to side of a still picture: (E,)."""
    x = grid_places()[..., 0] - 0.5
    weights = skins * blending.face_outline(REFERENCE, 0.5) + 1e-4
    values = logit(lights).mean(-1)
    weights = weights / weights.sum((1, 2), keepdims=True)
    middle, mean = ((weights * part).sum((1, 2), keepdims=True) for part in (x[None], values))
    slopes = (weights * (x - middle) * (values - mean)).sum((1, 2)) / (weights * np.square(x - middle)).sum((1, 2))
    return np.asarray(slopes / TO_CROP[0, 0] * VIEW, np.float32)


def _inverted(picture: Floats, offset: Floats) -> Floats:
    """Places of the reference face that are seen at places (F, F, 2) of a crop, by fixed-point iteration."""
    scale, shift = TO_CROP[0, 0], TO_CROP[:, 2]
    face = (picture - shift) / scale
    for _ in range(INVERSION_ROUNDS):
        face = (picture - _inside(face) * sample(offset, face, is_grid=True) - shift) / scale
    return np.asarray(face, np.float32)


def _inside(face: Floats) -> Floats:
    """1 where a place lies on the reference face: float32 (F, F, 1)."""
    return np.asarray(np.all((face > 0) & (face < 1), -1, keepdims=True), np.float32)
