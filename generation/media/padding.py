"""Padding an H.264 stream up to a size that does not depend on its content.

An encoder spends more or fewer bytes on a fake than on its real counterpart, and a file's size would tell them apart.
The padding is user data that decoders skip (ITU-T H.264, annex D: SEI message "user data unregistered"). Filler units
would be the obvious way, but ISO/IEC 14496-15 does not allow them in MP4.
"""

from __future__ import annotations

from fractions import Fraction

START = b"\0\0\0\1"
SEI_UNIT, USER_DATA, END = b"\x06", b"\x05", b"\x80"
IDENTIFIER = bytes.fromhex("6b1d2f0c9a7e4d5fb3c8e1a2d4f60718")  # of our own; marks padding
SMALLEST = len(START) + 3 + len(IDENTIFIER) + 1
RESERVE = 2 * SMALLEST + 2  # bytes from which every size can be padded

RATE_720P = 4_000_000  # bits per second at 1280x720 and 30 frames per second
MIN_RATE = 250_000
BUFFER_SECONDS = Fraction(1, 2)
GROWTH = Fraction(1, 8)  # of the usual size, added where content does not fit in it


def bits_per_second(width: int, height: int, fps: int | Fraction) -> int:
    """Rate of a video; small pictures need, and get, more bits for each pixel."""
    share: float = (width * height / (1280 * 720)) ** 0.75
    return max(MIN_RATE, round(RATE_720P * share * float(fps) / 30))


def rate_options(rate: int) -> dict[str, str]:
    """Options of x264 for a constant rate in bits per second."""
    return {"b": str(rate), "maxrate": str(rate), "bufsize": str(int(rate * BUFFER_SECONDS))}


def padded_size(num_coded: int, rate: int, seconds: Fraction) -> int:
    """Bytes of a padded stream: the most that the rate allows, and as many eighths of it more as the content needs."""
    usual = int(rate * (seconds + BUFFER_SECONDS) / 8)
    size = usual
    while size < num_coded + RESERVE:
        size += int(usual * GROWTH)
    return size


def stored_size(coded: bytes) -> int:
    """Bytes of a coded frame in an MP4, where each unit has its size in 4 bytes instead of a start code."""
    num_starts = coded.count(START[1:])
    return len(coded) + num_starts - coded.count(START)


def padding(num_bytes: int) -> bytes:
    """Units of user data of exactly so many bytes.

    Raises:
        ValueError: fewer than RESERVE.
    """
    for first in range(SMALLEST, SMALLEST + 2):
        units = [_unit(first), _unit(num_bytes - first)]
        if all(units):
            return b"".join(unit for unit in units if unit)
    raise ValueError(f"{num_bytes} bytes are too few for padding; use at least {RESERVE}")


def _unit(num_bytes: int) -> bytes | None:
    """One unit of that size; None for a size that the coding of its length skips."""
    head = len(START) + 2
    for num_length in range(1, num_bytes // 255 + 2):
        payload = num_bytes - head - num_length - len(END)
        if payload // 255 + 1 == num_length and payload >= len(IDENTIFIER):
            length = b"\xff" * (num_length - 1) + bytes([payload % 255])
            return START + SEI_UNIT + USER_DATA + length + IDENTIFIER + b"\xff" * (payload - len(IDENTIFIER)) + END
    return None
