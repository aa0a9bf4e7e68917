"""Standard degradations of frames and of whole clips: named, seeded, with fixed parameters.

    degrade_frames(frames, "jpeg")       # uint8 (T, 3, H, W) -> the same
    degrade_video(row["video"]["bytes"], "c40")  # an MP4 -> an MP4

Robustness is comparable only between numbers of one name. Degrade a whole clip first and sample its frames afterwards
where the degradation is an encoder: frames that are far apart do not compress as neighbours do.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from generation.arrays import Frame
from generation.errors import VideoError
from generation.media.reader import main_stream, open_video, read_frames, to_rgb
from generation.media.writer import MASTER_OPTIONS, VideoWriter, to_picture

# x264's own defaults but for mbtree, with which the bytes depend on what the process encoded before.
ENCODER_OPTIONS = {"preset": "medium", "mbtree": "0"}
BLUR_SIGMA_PX = 2.0
JPEG_QUALITY = 30
NOISE_SIGMA = 10.0  # of 255
FPS = 30  # of frames that are handed in without a rate


@dataclass(frozen=True)
class Degradation:
    """One degradation: either an encoder's quality or a change of single frames.

    Attributes:
        text: what it does, with its parameters.
        crf: x264's constant rate factor, None for changes of single frames.
        change: RGB uint8 (H, W, 3) and a generator of random numbers -> a frame of that shape.
    """

    text: str
    crf: int | None = None
    change: Callable[[Frame, np.random.Generator], Frame] | None = None

    @property
    def options(self) -> dict[str, str]:
        """Of the encoder of whole clips; a changed clip is written at such a quality that the change is what counts."""
        return MASTER_OPTIONS if self.crf is None else {**ENCODER_OPTIONS, "crf": str(self.crf)}


def _halve(frame: Frame, generator: np.random.Generator) -> Frame:
    height, width = frame.shape[:2]
    small = cv2.resize(frame, (max(width // 2, 1), max(height // 2, 1)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _blur(frame: Frame, generator: np.random.Generator) -> Frame:
    side = 2 * round(4 * BLUR_SIGMA_PX) + 1
    return cv2.GaussianBlur(frame, (side, side), BLUR_SIGMA_PX).astype(np.uint8)


def _jpeg(frame: Frame, generator: np.random.Generator) -> Frame:
    encoded = io.BytesIO()
    Image.fromarray(frame).save(encoded, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
    with Image.open(encoded) as image:
        return np.asarray(image.convert("RGB"), np.uint8)


def _add_noise(frame: Frame, generator: np.random.Generator) -> Frame:
    noisy = frame + generator.normal(0, NOISE_SIGMA, frame.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


DEGRADATIONS = {
    "c23": Degradation("H.264 by x264, crf 23, preset medium", crf=23),
    "c40": Degradation("H.264 by x264, crf 40, preset medium", crf=40),
    "half_size": Degradation("half the width and height by area, and back bilinearly", change=_halve),
    "blur": Degradation(f"Gaussian blur, sigma {BLUR_SIGMA_PX} pixels", change=_blur),
    "jpeg": Degradation(f"each frame as JPEG, quality {JPEG_QUALITY}, 4:2:0", change=_jpeg),
    "noise": Degradation(f"Gaussian noise, sigma {NOISE_SIGMA} of 255, for each value by itself", change=_add_noise),
}


def degrade_frames(frames: NDArray[np.uint8], name: str, *, seed: int = 0) -> NDArray[np.uint8]:
    """Degrades frames; an encoder takes them for neighbours, 30 a second.

    Args:
        frames: RGB uint8 (T, 3, H, W).
        name: one of DEGRADATIONS.
        seed: with the frame's number, that of the noise.

    Returns:
        RGB uint8 (T, 3, H, W).

    Raises:
        ValueError: no such degradation, or frames of another form.
    """
    chosen = _named(name)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1] != 3:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; hand in uint8 (T, 3, H, W)")
    if not len(frames):
        return frames.copy()
    clip = frames.transpose(0, 2, 3, 1)  # TCHW -> THWC
    if chosen.change is not None:
        degraded = [chosen.change(np.ascontiguousarray(frame), _random(seed, at)) for at, frame in enumerate(clip)]
    else:
        height, width = clip.shape[1:3]
        even = np.pad(clip, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge")  # as 4:2:0 needs it
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            size = {"width": even.shape[2], "height": even.shape[1]}
            with VideoWriter(path, **size, fps=FPS, options=chosen.options) as writer:
                for frame in even:
                    writer.write(frame)
            degraded = [frame[:height, :width] for frame in read_frames(path)]
    return np.ascontiguousarray(np.stack(degraded).transpose(0, 3, 1, 2))  # THWC -> TCHW


def degrade_video(video: bytes, name: str, *, seed: int = 0) -> bytes:
    """Degrades a whole clip, frame by frame: same size, rate and number of frames, no audio, no marks.

    Args:
        video: a file of constant rate that FFmpeg decodes, of even width and height.
        name: one of DEGRADATIONS.
        seed: see `degrade_frames`.

    Returns:
        An MP4, H.264, yuv420p; the same bytes each time.

    Raises:
        ValueError: no such degradation.
        VideoError: the video cannot be decoded, or its size is odd.
    """
    chosen = _named(name)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "video", Path(folder) / "degraded.mp4"
        source.write_bytes(video)
        try:
            _rewrite(source, out, chosen, seed)
        except VideoError as error:
            raise VideoError(str(error).replace(f"{folder}/", "")) from error
        return out.read_bytes()


def _rewrite(source: Path, out: Path, chosen: Degradation, seed: int) -> None:
    with open_video(source) as container:
        stream = main_stream(container)
        stream.codec_context.thread_count = 1
        context, rate = stream.codec_context, stream.average_rate or Fraction(FPS)
        is_plain = context.pix_fmt == "yuv420p"
        size = {"width": context.width, "height": context.height}
        with VideoWriter(out, **size, fps=rate, options=chosen.options) as writer:
            for number, picture in enumerate(container.decode(stream)):
                if chosen.change is not None:
                    writer.write(chosen.change(to_rgb(picture), _random(seed, number)))
                else:
                    writer.write_picture(picture if is_plain else to_picture(to_rgb(picture)))
    if not writer.num_frames:
        raise VideoError("video: has no frame; load it again")


def _named(name: str) -> Degradation:
    if name not in DEGRADATIONS:
        raise ValueError(f"{name}: no such degradation; use one of {', '.join(DEGRADATIONS)}")
    return DEGRADATIONS[name]


def _random(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, number])
