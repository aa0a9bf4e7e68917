"""A verification whose findings and names mean harm to the page that shows them."""

from __future__ import annotations

from collections.abc import Sequence

from homologous_deepfake import SUBSETS
from tooling.workspace.layout import Workspace
from tooling.workspace.verification_file import Finding, VerifiedFile, write_verification

HOSTILE = '</script><script>window.hit = 1</script><img src="//x.invalid" onerror="window.hit = 1">'
HOSTILE_NAME = '"><svg onload=hit()>&amp;'


def note_findings(workspace: Workspace, findings: Sequence[Finding], stale: str = "") -> None:
    """A verification with these findings, as `tooling verify` leaves it; images are not measured."""
    files = []
    for number, record in enumerate(r for subset in SUBSETS for r in workspace.records(subset).values()):
        own = tuple(one for one in findings if one.path in (record.path, *record.companions))
        measured = {"face_px": 100.0 + number, "brightness": 90.5, "sharpness": 10.0 * 3**number}
        if record.path.startswith("swap_video"):
            measured |= {"target_distance": 0.75, "source_distance": 0.2}
        digest = "0" * 64 if record.path == stale else record.sha256
        files.append(VerifiedFile(record.path, digest, own, {} if record.fps is None else measured))
    write_verification(workspace, files)
