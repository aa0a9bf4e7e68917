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

"$python" -c 'import cv2' 2>/dev/null || needs="$needs libgl1 libglib2.0-0"
decodes_video 2>/dev/null || needs="$needs ffmpeg"
[ -n "$needs" ] || exit 0

command="apt-get install -y --no-install-recommends$needs"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$needs" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $command -qq >/dev/null
else
    echo "error: system libraries are missing; run: sudo $command   (or your system's packages of the same), then make again" >&2
    exit 1
fi
"$python" -c 'import cv2'
decodes_video
