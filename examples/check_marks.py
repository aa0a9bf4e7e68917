"""Checks the marks of a file: who signed it, and what its manifest says about it. Takes the folder of a release."""

import io
import json
import sys
from pathlib import Path

import c2pa
from datasets import Video, load_dataset

release = Path(sys.argv[1] if len(sys.argv) > 1 else "homologous_deepfake")
root = (release / "root.pem").read_text()  # the certificate that the release's marks go back to
trust = c2pa.Context.from_dict({"trust": {"user_anchors": root}})
for config in ("raw_video", "swap_video"):
    splits = load_dataset(str(release), config)
    row = next(iter(splits.values())).cast_column("video", Video(decode=False))[0]
    with c2pa.Reader("video/mp4", io.BytesIO(row["video"]["bytes"]), context=trust) as reader:
        store = json.loads(reader.json())
        manifest = store["manifests"][store["active_manifest"]]
        parts = [part["title"] for part in manifest.get("ingredients", [])]
        failed = [failure["code"] for failure in reader.get_validation_results()["activeManifest"]["failure"]]
        print(row["path"], reader.get_validation_state(), *failed, row["digital_source_type"], *parts)
