"""How surfaces reflect light: skin, cloth, eyes, and what is wet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Material:
    """wrap: how far light reaches past the terminator, per channel; gloss and exponent of the Blinn-Phong highlight."""

    wrap: tuple[float, float, float]
    gloss: float
    exponent: float
    rim: float = 0.25


SKIN = Material(wrap=(0.42, 0.24, 0.17), gloss=0.22, exponent=18.0, rim=0.30)
CLOTH = Material(wrap=(0.22, 0.22, 0.22), gloss=0.02, exponent=6.0, rim=0.35)
EYE = Material(wrap=(0.40, 0.34, 0.32), gloss=0.30, exponent=90.0, rim=0.0)
WET = Material(wrap=(0.35, 0.25, 0.22), gloss=0.6, exponent=40.0, rim=0.0)
