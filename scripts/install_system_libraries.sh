#!/bin/sh
# Checks that OpenCV and torchcodec find the system's libraries; installs what is missing where it can.
# Usage: install_system_libraries.sh PYTHON
set -eu
python=$1
needs=""
"$python" -c 'import cv2' 2>/dev/null || needs="$needs libgl1 libglib2.0-0"
"$python" -c 'from torchcodec.decoders import VideoDecoder' 2>/dev/null || needs="$needs ffmpeg"
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
"$python" -c 'import cv2; from torchcodec.decoders import VideoDecoder'
