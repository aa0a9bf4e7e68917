#!/bin/sh
# Checks that OpenCV and torchcodec find the system's libraries; installs what is missing where it can.
# Usage: install_system_libraries.sh PYTHON
set -eu
python=$1
needs=""

# torchcodec looks for FFmpeg's libraries when it first opens a video, not when it is imported.
decodes_video() {
    "$python" - <<'EOF'
import tempfile
from pathlib import Path

import numpy as np
from torchcodec.decoders import VideoDecoder

from generation.media.writer import write_clip

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "clip.mp4"
    write_clip(path, [np.full((64, 64, 3), 90, np.uint8)] * 2)
    assert len(VideoDecoder(str(path))) == 2
EOF
}

"$python" -c 'import cv2' || needs="$needs libgl1 libglib2.0-0"
decodes_video || needs="$needs ffmpeg"
if [ -n "$needs" ]; then
    command="apt-get install -y --no-install-recommends$needs"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "error: system libraries are missing; run: sudo $command   (or your system's packages of the same), then make again" >&2
        exit 1
    fi
    echo "system libraries: installing$needs"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $command -qq
    "$python" -c 'import cv2'
    decodes_video
fi
echo "system libraries: OpenCV and FFmpeg found"
