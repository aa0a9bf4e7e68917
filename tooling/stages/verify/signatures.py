"""The marks of a file: signed by us, unchanged, of the right kind, one label on a fake and none on a real file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from generation.errors import VideoError
from homologous_deepfake import SUBSETS, people_of
from tooling.errors import InputError
from tooling.marks.manifest import Mark, read_marks
from tooling.stages.verify.file_check import FileCheck, is_imported
from tooling.workspace.records import FileRecord, command_for
from tooling.workspace.signing_keys import SigningKeys


def check_marks(path: Path, record: FileRecord, keys: SigningKeys, clips: Collection[str], check: FileCheck) -> None:
    """Reads the marks of a file; what is wrong with them goes to `check`.

    Args:
        path, record: of the file.
        keys: of the signers that are trusted.
        clips: paths of the workspace's clips; the mark of a fake must name those that it was made from.
        check: takes the findings.
    """
    again = f"delete it and run {command_for(record.subset)}"
    mark = Mark(record.path, SUBSETS[record.subset].method, record.generator)
    try:
        found = read_marks(path, keys)
    except (InputError, VideoError, ValueError) as error:
        what = str(error).partition(";")[0].removeprefix(f"{path}: ")
        check.error("marks", f"its marks cannot be read ({what}); {again}")
        return
    if found.state in ("missing", "invalid"):
        if found.state == "missing":
            check.error("marks", "carries no mark; run `tooling keys sign`")
        else:
            check.error("marks", f"was changed after it was signed; {again}")
        return
    if found.state == "untrusted":
        time = ", with a certificate that is not valid at the time" if found.is_expired else ""
        what = f"is signed by others than keys/{time}"
        if record.origin == "pulled":
            check.note("marks", f"{what}: it was pulled from {record.results.get('repository')}")
        else:
            check.error("marks", f"{what}; run `tooling keys sign`, or put the right keys there")
    elif keys.timestamp_server and not found.has_time_stamp and record.origin != "pulled":
        check.error("marks", "has no time stamp, as workspace.toml demands; run `tooling keys sign`")
    stated = found.source_types[-1] if found.source_types else ""
    if stated != mark.source_type:
        check.error("marks", f"its mark says {stated or 'nothing'}, must be {mark.source_type}; {again}")
    if record.digital_source_type != mark.source_type:
        said = record.digital_source_type or "unmarked"
        check.error("marks", f"its record says {said}, must be {mark.source_type}; run `tooling keys sign`")
    if len(found.labels) != mark.is_fake:
        check.error("marks", f"AIGC labels: {len(found.labels)}, must be {int(mark.is_fake)}; {again}")
    _check_ingredients(record, mark, found.ingredients, clips, check)


def _check_ingredients(
    record: FileRecord, mark: Mark, found: tuple[str, ...], clips: Collection[str], check: FileCheck
) -> None:
    """The target's clip first, then the source's; clips that the workspace does not have need not be named."""
    expected = tuple(f"raw_video/{person}.mp4" for person in people_of(record.sample_id)) if mark.is_fake else ()
    again = f"delete it and run {command_for(record.subset)}"
    there = tuple(clip for clip in expected if clip in clips)
    if found in (expected, there) or (is_imported(record) and set(found) <= set(expected)):
        return
    named = ", ".join(found) or "nothing"
    check.error(
        "marks",
        f"its mark says it was made from {named}, must be {', '.join(expected) or 'nothing'}; {again}",
    )
