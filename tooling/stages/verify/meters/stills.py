"""Generated images: one face, in the middle; described and measured."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np

from generation.quality.traces import measure_frame
from tooling.stages.verify.file_check import FileCheck
from tooling.stages.verify.meters import descriptors
from tooling.stages.verify.meters.crops import CropLimits, FaceMeter
from tooling.stages.verify.meters.recognition import embed, encoder_class
from tooling.stages.verify.state import EncoderChoice
from tooling.stages.verify.video_pass import read_still
from tooling.workspace.records import FileRecord

# An image is framed by its generator, not by a detector: on 18 images of the weight-free one the face's middle was
# within 8 % of the picture's, with a side of 58 to 76 %.
LIMITS = CropLimits(largest_seen_offcentre=0.18, smallest_face=0.25, smallest_other=0.0)


def check_image(path: Path, record: FileRecord, check: FileCheck, encoder: EncoderChoice | None) -> None:
    """Decodes and measures an image, and embeds its face; findings and measurements go to `check`."""
    picture = read_still(path, record, check)
    if picture is None:
        return
    check.content = hashlib.sha256(picture.tobytes()).hexdigest()
    check.descriptors = descriptors.pack([descriptors.describe(picture)])
    check.traces = measure_frame(picture)
    check.mean_picture = descriptors.pack_mean_picture(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8))
    face = FaceMeter(check, 1, LIMITS)
    face.add_picture(picture)
    face.finish()
    if encoder is not None and face.landmarks is not None:
        embed(check, [encoder_class(encoder).cut(picture, face.landmarks)], encoder)
    if face.box is not None:
        # RGB full range -> luma in a video's range, so that brightness has one scale
        grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32)
        luma = np.rint(grey * (descriptors.WHITE - descriptors.BLACK) / 255 + descriptors.BLACK).astype(np.uint8)
        measured = descriptors.measure_face(luma, face.box)
        check.measurements.update(descriptors.named(*measured) if measured else {})
