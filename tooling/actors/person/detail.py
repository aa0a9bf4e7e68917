"""How finely an actor is built: what a small frame can't show is not made."""

from __future__ import annotations

from dataclasses import dataclass

COARSE_PX_PER_CM = 11.0


@dataclass(frozen=True)
class Detail:
    """num_rows, num_columns of the head's grid; texels_per_cell of its texture along each side; eye_texels: side of an
    eye's texture; num_sky_directions from which light is blocked for the ambient occlusion."""

    num_rows: int
    num_columns: int
    texels_per_cell: int
    eye_texels: int
    num_sky_directions: int


FINE = Detail(num_rows=304, num_columns=304, texels_per_cell=3, eye_texels=320, num_sky_directions=24)
COARSE = Detail(num_rows=152, num_columns=152, texels_per_cell=2, eye_texels=96, num_sky_directions=12)


def detail_for(px_per_cm: float) -> Detail:
    """COARSE up to 360 px of height in the usual shots, FINE for whatever shows more."""
    return COARSE if px_per_cm <= COARSE_PX_PER_CM else FINE
