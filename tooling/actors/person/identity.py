"""Who an actor is: every identity parameter, drawn from a seed.

Parameters are spread by additive recurrence (one irrational step per parameter), so that neighbouring
seeds differ in many parameters at once and any run of seeds covers each range evenly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Gender = Literal["male", "female"]
HairStyle = Literal[
    "side_part", "crew", "fringe_crop", "swept_back", "receding",
    "long", "long_fringe", "bob", "bob_fringe", "ponytail", "bun", "short_perm",
]  # fmt: skip
Glasses = Literal["none", "round", "square", "half_rim"]
Clothes = Literal["suit", "shirt", "crew_neck", "turtleneck", "v_neck", "blouse"]
Backdrop = Literal["office", "bookshelf", "window", "studio", "plants"]

MALE_STYLES: tuple[HairStyle, ...] = ("side_part", "crew", "fringe_crop", "swept_back")
FEMALE_STYLES: tuple[HairStyle, ...] = ("long", "bob_fringe", "ponytail", "long_fringe", "bun", "bob")
MALE_CLOTHES: tuple[Clothes, ...] = ("suit", "crew_neck", "shirt", "v_neck", "turtleneck")
FEMALE_CLOTHES: tuple[Clothes, ...] = ("blouse", "crew_neck", "suit", "v_neck", "turtleneck")
BACKDROPS: tuple[Backdrop, ...] = ("office", "bookshelf", "window", "plants", "studio")
# Muted linear-light garment colours.
PALETTE = (
    (0.030, 0.045, 0.095), (0.045, 0.045, 0.050), (0.420, 0.400, 0.370), (0.160, 0.035, 0.045),
    (0.050, 0.130, 0.120), (0.330, 0.230, 0.140), (0.120, 0.190, 0.330), (0.360, 0.330, 0.250),
    (0.200, 0.110, 0.170), (0.090, 0.120, 0.070), (0.500, 0.330, 0.300), (0.230, 0.250, 0.270),
)  # fmt: skip
SHIRTS = ((0.56, 0.57, 0.59), (0.42, 0.50, 0.64))  # white, blue


@dataclass(frozen=True)
class Actor:
    """All identity parameters. Shape parameters run over [-1, 1] (0 is the average face)."""

    seed: int
    gender: Gender
    age_years: int
    skin_tone: float  # 0 light to 1 tanned
    skin_warmth: float
    face_width: float
    face_length: float
    jaw_width: float
    chin_length: float
    chin_width: float
    cheekbone: float
    cheek_fullness: float
    eye_spacing: float
    eye_size: float
    eye_opening: float
    eye_tilt: float
    eyelid_crease: float  # 0 single eyelid to 1 deep crease
    brow_thickness: float
    brow_height: float
    brow_arch: float
    brow_tilt: float
    nose_length: float
    nose_width: float
    nose_bridge: float
    nose_tip: float
    mouth_width: float
    mouth_height: float
    upper_lip: float
    lower_lip: float
    lip_tone: float  # 0 pale to 1 painted
    hair_style: HairStyle
    hair_color: tuple[float, float, float]  # linear light
    hair_grey: float  # 0 to 1
    hairline_height: float
    hair_volume: float
    parting_side: int  # -1 image left, 1 image right
    stubble: float  # 0 to 1
    wrinkles: float  # 0 to 1
    moles: tuple[tuple[float, float, float], ...]  # x, y, radius in cm on the face
    glasses: Glasses
    clothes: Clothes
    clothes_color: tuple[float, float, float]
    shirt_color: tuple[float, float, float]
    shoulder_width: float
    backdrop: Backdrop
    key_side: int  # side of the main light, -1 image left, 1 image right


def _spread(seed: int, gender: Gender) -> dict[str, float]:
    """Values in [0, 1) by name: fraction of offset + seed * irrational step."""
    if gender not in ("male", "female"):
        raise ValueError(f"gender must be male or female, not {gender!r}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, not {seed}")
    names = [
        "age", "tone", "warmth", "fw", "fl", "jaw", "chin_l", "chin_w", "bone", "full", "es", "ez", "eo",
        "tilt", "crease", "bt", "bh", "ba", "bti", "nl", "nw", "nb", "nt", "mw", "mh", "ul", "ll", "lip",
        "color", "hairline", "volume", "part", "stubble", "mole", "mole_n", "glasses", "clothes", "inner",
        "shoulder", "backdrop", "key", "style",
    ]  # fmt: skip
    primes = [p for p in range(2, 400) if all(p % q for q in range(2, math.isqrt(p) + 1))]
    offsets = np.random.default_rng(7 if gender == "male" else 11).random(len(names))
    return {
        name: float((offset + (seed + 1) * math.sqrt(prime)) % 1.0)
        for name, offset, prime in zip(names, offsets, primes, strict=False)
    }


def _hair_color(value: float, age_years: int, first_grey: float) -> tuple[tuple[float, float, float], float]:
    """Black to dark brown by `value`; the share of grey rises from `first_grey` years on."""
    black, brown = np.array([0.010, 0.009, 0.009]), np.array([0.024, 0.013, 0.008])
    mixed = black + (brown - black) * value**1.6
    grey = float(np.clip((age_years - first_grey) / 16.0, 0.0, 0.95))
    return (float(mixed[0]), float(mixed[1]), float(mixed[2])), grey


def _moles(seed: int, count: int) -> tuple[tuple[float, float, float], ...]:
    rng = np.random.default_rng(seed + 5003)
    spots = []
    for _ in range(count):
        side = 1.0 if rng.random() < 0.5 else -1.0
        x, y = side * rng.uniform(1.9, 4.6), rng.uniform(-8.5, -2.2)
        spots.append((float(x), float(y), float(rng.uniform(0.10, 0.17))))
    return tuple(spots)


def _hair_style(gender: Gender, seed: int, age_years: int) -> HairStyle:
    if gender == "male":
        return "receding" if age_years >= 56 else MALE_STYLES[seed % len(MALE_STYLES)]
    return "short_perm" if age_years >= 60 else FEMALE_STYLES[seed % len(FEMALE_STYLES)]


def _glasses(value: float, share: float) -> Glasses:
    frames: tuple[Glasses, ...] = ("square", "round", "half_rim")
    return frames[int(value * 50) % 3] if value < share else "none"


def sample_actor(seed: int, gender: Gender) -> Actor:
    """The actor of a seed; the same seed and gender always give the same actor.

    Raises ValueError for a gender other than "male" and "female" or a negative seed.
    """
    is_male = gender == "male"
    u = _spread(seed, gender)
    s = {name: 2.0 * value - 1.0 for name, value in u.items()}
    age_years = round(22 + 48 * u["age"] ** 1.9)
    color, grey = _hair_color(u["color"], age_years, 48.0 if is_male else 57.0)
    return Actor(
        seed=seed,
        gender=gender,
        age_years=age_years,
        skin_tone=u["tone"] * (1.0 if is_male else 0.85),
        skin_warmth=s["warmth"],
        face_width=s["fw"],
        face_length=s["fl"] + (0.0 if is_male else -0.8),
        jaw_width=s["jaw"] * 0.8 + (0.25 if is_male else -0.95),
        chin_length=s["chin_l"],
        chin_width=s["chin_w"] + (0.3 if is_male else -0.7),
        cheekbone=s["bone"],
        cheek_fullness=s["full"],
        eye_spacing=s["es"],
        eye_size=s["ez"] + (-0.1 if is_male else 0.7),
        eye_opening=s["eo"] + (-0.2 if is_male else 0.7),
        eye_tilt=s["tilt"],
        eyelid_crease=u["crease"],
        brow_thickness=s["bt"] * 0.8 + (0.35 if is_male else -0.45),
        brow_height=s["bh"] + (-0.2 if is_male else 0.5),
        brow_arch=s["ba"] + (-0.2 if is_male else 0.3),
        brow_tilt=s["bti"],
        nose_length=s["nl"] + (0.1 if is_male else -0.5),
        nose_width=s["nw"] + (0.1 if is_male else -0.8),
        nose_bridge=s["nb"] + (0.2 if is_male else -0.1),
        nose_tip=s["nt"],
        mouth_width=s["mw"] + (0.0 if is_male else -0.7),
        mouth_height=s["mh"],
        upper_lip=s["ul"] + (-0.2 if is_male else 0.5),
        lower_lip=s["ll"] + (-0.1 if is_male else 0.2),
        lip_tone=u["lip"] * 0.25 if is_male else 0.35 + 0.65 * u["lip"],
        hair_style=_hair_style(gender, seed, age_years),
        hair_color=color,
        hair_grey=grey,
        hairline_height=s["hairline"],
        hair_volume=s["volume"],
        parting_side=-1 if u["part"] < 0.5 else 1,
        stubble=max(0.0, u["stubble"] - 0.45) / 0.55 * is_male,
        wrinkles=float(np.clip((age_years - 30) / 38.0, 0.0, 1.0)),
        moles=_moles(seed, int(u["mole_n"] * 2.6)),
        glasses=_glasses(u["glasses"], 0.38 if is_male else 0.25),
        clothes=MALE_CLOTHES[(seed * 7 + 2) % len(MALE_CLOTHES)]
        if is_male
        else FEMALE_CLOTHES[seed * 3 % len(FEMALE_CLOTHES)],
        clothes_color=PALETTE[int(u["inner"] * len(PALETTE))],
        shirt_color=SHIRTS[u["warmth"] >= 0.6],
        shoulder_width=s["shoulder"] + (0.4 if is_male else -0.6),
        backdrop=BACKDROPS[(seed * 2 + (0 if is_male else 1)) % len(BACKDROPS)],
        key_side=-1 if u["key"] < 0.6 else 1,
    )
