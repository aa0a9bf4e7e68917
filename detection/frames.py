"""Frames of a row of a release: chosen by a sampling, decoded where they are needed, cut around the face.

A row is what `datasets.load_dataset` or `detection.pairs` yields of a release. Its media may be in any form that a
version of `datasets` gives: {"bytes", "path"}, torchcodec's VideoDecoder, torchvision's VideoReader (datasets 3.6), a
Pillow image. Batches are made where the rows are read, in the workers of a DataLoader:

    dataset = load_dataset("homologous_deepfake", "swap_video", split="train", streaming=True)
    loader = DataLoader(dataset, 4, num_workers=2, collate_fn=partial(collate, sampling=Evenly(8)))
    for batch in loader:
        batch["frames"], batch["label"]  # uint8 (4, 8, 3, 224, 224), int64 (4,)

The mask of a fake says where it differs from its real clip: 0 is a pixel of the clip, 255 a replaced one, what lies
between a blend of both. `collate(..., masks=True)` gives masks beside the frames: of the same frames and squares, and
scaled by the same filter, so that a value is the replaced share of its pixel.

torchcodec decodes the key frame before each chosen frame and what lies between: 15 frames at most. Its pixels are those
of `generation.media.reader` without `is_exact`, within 1 level where the two bring different builds of FFmpeg.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from generation.arrays import Frame
from generation.errors import VideoError, one_line

# What the libraries raise for media that are damaged, or no media at all.
DECODING_ERRORS = (
    *(RuntimeError, LookupError, ValueError, TypeError, OSError, SyntaxError, StopIteration),
    Image.DecompressionBombError,
)
OBJECT = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>")  # where a library would name its file

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Evenly:
    """`count` frames spread over the whole clip, the first and the last frame among them; the middle one if it is 1.

    A clip of fewer frames gives each of its frames once.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"Evenly({self.count}): needs a count of at least 1")

    def numbers(self, num_frames: int, fps: float) -> NDArray[np.int64]:
        """Numbers of the chosen frames, ascending."""
        if self.count == 1:
            return np.array([(num_frames - 1) // 2])
        return np.linspace(0, num_frames - 1, min(self.count, num_frames)).round().astype(np.int64)


@dataclass(frozen=True)
class Every:
    """Every `step`-th frame, from the first one on."""

    step: int

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ValueError(f"Every({self.step}): needs a step of at least 1")

    def numbers(self, num_frames: int, fps: float) -> NDArray[np.int64]:
        """Numbers of the chosen frames, ascending."""
        return np.arange(0, num_frames, self.step)


@dataclass(frozen=True)
class Window:
    """All frames of a part of the clip: `seconds` long, `start` seconds after the first frame; shorter at the end."""

    seconds: float
    start: float = 0.0

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.start >= 0):
            raise ValueError(f"{self}: needs seconds above 0 and a start of at least 0")

    def numbers(self, num_frames: int, fps: float) -> NDArray[np.int64]:
        """Numbers of the chosen frames, ascending.

        Raises:
            ValueError: the clip ends before the window starts.
        """
        first = round(self.start * fps)
        if first >= num_frames:
            raise ValueError(f"{self}: starts after the last of {num_frames} frames; let it start earlier")
        return np.arange(first, min(first + max(1, round(self.seconds * fps)), num_frames))


Sampling = Evenly | Every | Window


def sample_frames(
    row: Row, sampling: Sampling, *, crop: float | None = 1.3, size_px: int | None = 224
) -> NDArray[np.uint8]:
    """Some frames of a row, cut around the face.

    Crops are square, around the middle of the stored box of each frame, and `crop` times as wide as the longer side of
    that box. What they have beyond the picture's edge is black. Where no face was detected, the stored box is
    interpolated, and the frame is returned like any other. A fake has the boxes of its real clip, so that the crops of
    both show the same part of the picture. An image has no box: its crop is the largest square in its middle.

    Args:
        row: with the columns num_frames, fps, boxes (for crops), and video or image.
        sampling: which frames; an image is one frame, whatever the sampling.
        crop: None for whole frames.
        size_px: shorter side of what is returned; whole frames keep their shape. None: whole frames as stored.

    Returns:
        RGB uint8 (T, 3, H, W), in the order of time.

    Raises:
        ValueError: a column is missing or null, or the sampling does not fit the clip.
        VideoError: the media cannot be decoded, or have fewer frames than the row says.
    """
    return _sample(row, _frame_numbers(row, sampling, None), crop, size_px)


def sample_masks(
    row: Row, sampling: Sampling, *, crop: float | None = 1.3, size_px: int | None = 224
) -> NDArray[np.uint8] | None:
    """The masks that belong to the frames of `sample_frames` with the same arguments.

    Args:
        row: also with the column mask.
        sampling, crop, size_px: see `sample_frames`.

    Returns:
        uint8 (T, 1, H, W), 0 for the real clip to 255 for replaced; 0 beyond the picture's edge. Scaled by a triangle
        filter as wide as a pixel of the result is in the picture, like the frames: a mean over the area, no nearest
        neighbours. None if the row has no mask (real files, generated images, imported fakes), or without its column.

    Raises:
        ValueError, VideoError: see `sample_frames`.
    """
    return _sample_masks(row, _frame_numbers(row, sampling, None), crop, size_px)


def sample_row(
    row: Row,
    sampling: Sampling,
    *,
    crop: float | None = 1.3,
    size_px: int | None = 224,
    num_frames: int | None = None,
    masks: bool = False,
) -> dict[str, Any]:
    """The frames of `sample_frames` with what belongs to them.

    Args:
        row, sampling, crop, size_px: see `sample_frames`.
        num_frames: choose among so many of the first frames, as for clips that are compared frame by frame.
        masks: decode the masks too.

    Returns:
        frames: RGB uint8 (T, 3, H, W).
        numbers: int64 (T,), the frames' numbers in the clip, from 0.
        is_detected: bool (T,), whether the face was detected in the frame, or its box is interpolated; True for images.
        sample_id, label: of the row; 0 is real, 1 is fake.
        masks: if asked for, those of `sample_masks`: uint8 (T, 1, H, W), or None.

    Raises:
        ValueError, VideoError: see `sample_frames`.
    """
    numbers = _frame_numbers(row, sampling, num_frames)
    flags = row.get("is_detected")
    sample = {
        "frames": _sample(row, numbers, crop, size_px),
        "numbers": numbers,
        "is_detected": np.ones(len(numbers), bool) if flags is None else np.asarray(flags, bool)[numbers],
        "sample_id": row["sample_id"],
        "label": int(row["label"]),
    }
    return sample | ({"masks": _sample_masks(row, numbers, crop, size_px)} if masks else {})


def collate(
    rows: Sequence[Row],
    sampling: Sampling,
    *,
    crop: float | None = 1.3,
    size_px: int | None = 224,
    masks: bool = False,
) -> dict[str, Any]:
    """A batch of rows for a DataLoader: `collate_fn=functools.partial(collate, sampling=Evenly(8))`.

    Args:
        rows: rows of any subsets, or pairs of `detection.pairs.load_pairs`, whose members get the same frame numbers.
        sampling, crop, size_px: see `sample_frames`.
        masks: decode the masks too, of rows that have them.

    Returns:
        frames: uint8 tensor (B, T, 3, H, W); rows of fewer frames are filled up with black.
        is_frame: bool (B, T), False where a row is filled up.
        numbers: int64 (B, T), -1 where a row is filled up.
        is_detected: bool (B, T), False where a row is filled up.
        label: int64 (B,).
        sample_id: list of B strings.
        masks: if asked for, uint8 (B, T, 1, H, W), see `sample_masks`; 0 where a row has none or is filled up.
        has_mask: if asked for, bool (B,). In a real row nothing was replaced; of a fake without a mask it is not known
            where.
        For pairs: such a batch for each of fake, real and source (left out if the pairs have none).

    Raises:
        ValueError: as `sample_frames`; also if the frames of the rows differ in size, or only some pairs have a source.
        VideoError: see `sample_frames`.
    """
    if "sample_id" in rows[0]:
        return _stack([sample_row(row, sampling, crop=crop, size_px=size_px, masks=masks) for row in rows])
    members: dict[str, list[dict[str, Any]]] = {}
    for pair in rows:
        present = {name: row for name, row in pair.items() if row is not None}
        shortest = min(int(row["num_frames"]) for row in present.values())
        for name, row in present.items():
            sample = sample_row(row, sampling, crop=crop, size_px=size_px, num_frames=shortest, masks=masks)
            members.setdefault(name, []).append(sample)
    if partial := [name for name, samples in members.items() if len(samples) < len(rows)]:
        raise ValueError(f"some pairs of the batch have no {partial[0]}; batch pairs of one subset")
    return {name: _stack(samples) for name, samples in members.items()}


def face_square(box: Sequence[float], crop: float) -> tuple[float, float, float]:
    """The square that a crop shows: left, top and side in pixels of the frame; it may reach beyond the frame.

    Args:
        box: left, top, right, bottom in pixels.
        crop: side of the square, in longer sides of the box.
    """
    left, top, right, bottom = map(float, box)
    side = max(right - left, bottom - top) * crop
    return (left + right - side) / 2, (top + bottom - side) / 2, side


def cut_square(frame: Frame, square: tuple[float, float, float], size_px: int) -> Frame:
    """A square of a frame (see `face_square`), scaled: RGB uint8 (size_px, size_px, 3), black beyond the edges."""
    x, y, side = square
    left, top, right, bottom = np.floor(x), np.floor(y), np.ceil(x + side), np.ceil(y + side)
    height, width = frame.shape[:2]
    (x0, x1), (y0, y1) = (np.clip((left, right), 0, width).astype(int), np.clip((top, bottom), 0, height).astype(int))
    around = np.zeros((int(bottom - top), int(right - left), 3), np.uint8)
    inside = frame[y0:y1, x0:x1]
    if inside.size:
        at_y, at_x = int(y0 - top), int(x0 - left)
        around[at_y : at_y + y1 - y0, at_x : at_x + x1 - x0] = inside
    box = (x - left, y - top, x - left + side, y - top + side)
    return np.asarray(Image.fromarray(around).resize((size_px, size_px), Image.Resampling.BILINEAR, box))


def _frame_numbers(row: Row, sampling: Sampling, most: int | None) -> NDArray[np.int64]:
    if "image" in row:
        return np.array([0])
    num_frames = int(_column(row, "num_frames"))
    return sampling.numbers(min(num_frames, most or num_frames), float(_column(row, "fps")))


def _column(row: Row, name: str) -> Any:
    if row.get(name) is None:
        raise ValueError(f"{_name(row)}: has no {name}; keep that column, or take a release that fills it in")
    return row[name]


def _name(row: Row) -> str:
    return str(row.get("path") or row.get("sample_id") or "row")


def _sample(row: Row, numbers: NDArray[np.int64], crop: float | None, size_px: int | None) -> NDArray[np.uint8]:
    if crop is None:
        frames = [_resized(frame, size_px) for frame in _decode(row, numbers)]
    elif size_px is None or not crop > 0:
        raise ValueError(f"crop={crop}, size_px={size_px}: crops need a factor above 0 and a size in pixels")
    elif "image" in row:
        (frame,) = _decode(row, numbers)
        height, width = frame.shape[:2]
        side = min(height, width)
        frames = [cut_square(frame, ((width - side) / 2, (height - side) / 2, side), size_px)]
    else:
        boxes = np.asarray(_column(row, "boxes"), np.float64)
        if len(boxes) != int(row["num_frames"]) or not np.isfinite(boxes).all():
            raise ValueError(f"{_name(row)}: has not one finite box for each frame; pass crop=None for whole frames")
        squares = (face_square(box, crop) for box in boxes[numbers])
        frames = [cut_square(*one, size_px) for one in zip(_decode(row, numbers), squares, strict=True)]
    return np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2))  # THWC -> TCHW


def _sample_masks(
    row: Row, numbers: NDArray[np.int64], crop: float | None, size_px: int | None
) -> NDArray[np.uint8] | None:
    if row.get("mask") is None:
        return None
    grey = _sample({**row, "video": row["mask"], "path": f"mask of {_name(row)}"}, numbers, crop, size_px)
    return np.ascontiguousarray(grey[:, :1])  # R, G and B are equal


def _resized(frame: Frame, size_px: int | None) -> Frame:
    height, width = frame.shape[:2]
    if size_px is None or size_px == min(height, width):
        return frame
    scale = size_px / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))


def _decode(row: Row, numbers: NDArray[np.int64]) -> Sequence[Frame]:
    """Frames of those numbers, RGB uint8 (H, W, 3) each."""
    media = _column(row, "image" if "image" in row else "video")
    try:
        if "image" in row:
            return [_picture(media)]
        if hasattr(media, "seek"):  # torchvision's reader
            return _seek_frames(media, numbers, float(row["fps"]))
        decoded = _decoder(media).get_frames_at(indices=numbers.tolist()).data.cpu()
    except DECODING_ERRORS as error:
        reason = OBJECT.sub("", one_line(error)).strip()
        raise VideoError(f"{_name(row)}: cannot be decoded ({reason}); load it again") from error
    return list((decoded if decoded.shape[-1] == 3 else decoded.permute(0, 2, 3, 1)).numpy())  # some give THWC


def _picture(media: Any) -> Frame:
    if isinstance(media, Mapping):
        media = media["path"] if media.get("bytes") is None else media["bytes"]
    if isinstance(media, bytes):
        media = io.BytesIO(media)
    with media if isinstance(media, Image.Image) else Image.open(media) as image:
        return np.asarray(image.convert("RGB"))


def _decoder(media: Any) -> Any:
    """torchcodec's decoder of a video in whatever form it comes."""
    if hasattr(media, "get_frames_at"):
        return media
    from torchcodec.decoders import VideoDecoder

    if isinstance(media, Mapping):
        media = media["path"] if media.get("bytes") is None else media["bytes"]
    return VideoDecoder(str(media) if isinstance(media, Path) else media)


def _seek_frames(reader: Any, numbers: NDArray[np.int64], fps: float) -> list[Frame]:
    """Frames from torchvision's reader, which knows times and not numbers."""
    frames = []
    for number in numbers.tolist():
        reader.seek(number / fps, keyframes_only=True)  # the key frame before it
        frame = next(reader)
        while frame["pts"] < (number - 0.5) / fps:
            frame = next(reader)
        frames.append(frame["data"].permute(1, 2, 0).numpy())  # CHW -> HWC
    return frames


def _stack(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    sizes = {sample["frames"].shape[1:] for sample in samples}
    if len(sizes) > 1:
        found = ", ".join(sorted(f"{width}x{height}" for _, height, width in sizes))
        raise ValueError(f"frames differ in size within a batch ({found}); pass a crop, or batch rows of one size")
    most = max(len(sample["numbers"]) for sample in samples)

    def filled(name: str, value: int) -> torch.Tensor:
        arrays = [_no_masks(sample) if sample[name] is None else sample[name] for sample in samples]
        shape = (len(arrays), most, *arrays[0].shape[1:])
        batch = np.full(shape, value, arrays[0].dtype) if value else np.zeros(shape, arrays[0].dtype)
        for at, array in enumerate(arrays):
            batch[at, : len(array)] = array
        return torch.from_numpy(batch)

    numbers = filled("numbers", -1)
    batch = {
        "frames": filled("frames", 0),
        "is_frame": numbers >= 0,
        "numbers": numbers,
        "is_detected": filled("is_detected", 0),
        "label": torch.tensor([sample["label"] for sample in samples]),
        "sample_id": [sample["sample_id"] for sample in samples],
    }
    if "masks" in samples[0]:
        batch["masks"] = filled("masks", 0)
        batch["has_mask"] = torch.tensor([sample["masks"] is not None for sample in samples])
    return batch


def _no_masks(sample: Mapping[str, Any]) -> NDArray[np.uint8]:
    num_frames, _, height, width = sample["frames"].shape
    return np.zeros((num_frames, 1, height, width), np.uint8)
