"""Preupload and commit: which files are sent as large ones, and the ndjson of operations that becomes one commit."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from dulwich.lfs import LFSPointer

from tooling.hub.cards import read_metadata
from tooling.hub.fields import Fields, read_json
from tooling.hub.responses import HubError, entry_not_found
from tooling.hub.store.large_files import OID
from tooling.hub.store.patterns import is_ignored, read_ignore_rules, read_large_rules
from tooling.hub.store.repository import NewCommit, Repository, branch_moved, parse_pointer

REGULAR_BYTES = 10 << 20  # a larger file must be sent as a large file
LINE_BYTES = REGULAR_BYTES * 4 // 3 + (64 << 10)

# Paths that leave their folder on some system. A backslash further in is part of a name, as on the Hub: git and POSIX
# allow it, and huggingface_hub refuses to write such a file.
ESCAPES = re.compile(r"\.\.?\\|\\|[A-Za-z]:[\\/]")

LARGE_SUFFIXES = (
    "7z aac arrow avro bin bmp bz2 ckpt flac ftz gif gz h5 jpeg jpg joblib lz4 mkv mlmodel model mp3 mp4 msgpack "
    "npy npz ogg onnx ot parquet pb pcm pickle pkl png pt pth rar raw safetensors sam tar tflite tgz tiff wasm wav "
    "webm webp xz zip zst"
)


def default_attributes() -> bytes:
    """The .gitattributes of a new repository."""
    patterns = [f"*.{suffix}" for suffix in LARGE_SUFFIXES.split()] + ["saved_model/**/*", "*tfevents*"]
    return "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in patterns).encode()


@dataclass(frozen=True)
class Operations:
    """A parsed commit: the header and, in the order sent, one (key, value) per line."""

    summary: str
    description: str
    parent_commit: str | None
    lines: Iterator[tuple[str, Fields]]

    def new_commit(self, user: str) -> NewCommit:
        return NewCommit(user, f"{self.summary}\n\n{self.description}" if self.description else self.summary)


def upload_modes(repository: Repository, commit_id: str, request: Fields) -> list[dict[str, Any]]:
    """For each file of a preupload request: large or regular, whether .gitignore leaves it out, and the present oid."""
    large_rules = read_large_rules(_content_of(repository, commit_id, ".gitattributes"))
    is_given = request.values.get("gitIgnore") is not None
    ignored = request.text("gitIgnore").encode() if is_given else _content_of(repository, commit_id, ".gitignore")
    ignore_rules = read_ignore_rules(ignored)
    answers: list[dict[str, Any]] = []
    for file in request.records("files"):
        path = checked_path(file.text("path"))
        size, sample = file.whole_number("size"), _decode(file.text("sample"))
        is_large = size > 0 and (size > REGULAR_BYTES or large_rules.decide(path) or _is_binary(sample))
        answer = {
            "path": path,
            "uploadMode": "lfs" if is_large else "regular",
            "shouldIgnore": is_ignored(ignore_rules, path),
        }
        present = repository.entry(commit_id, path)
        if present is not None and not present.is_folder:
            answer["oid"] = present.etag
        answers.append(answer)
    return answers


def read_operations(spooled: BinaryIO) -> Operations:
    """The header of an ndjson commit; the other lines are read while they are applied.

    Raises:
        HubError: 400, this is not such a commit.
    """
    lines = _lines(spooled)
    key, header = next(lines, ("", Fields({})))
    summary = header.text("summary")
    if key != "header" or not summary.strip():
        raise HubError(400, "The first line of a commit must be its header with a summary")
    return Operations(summary, header.text("description"), header.text("parentCommit") or None, lines)


def apply_operations(repository: Repository, head: str, operations: Operations, new: NewCommit) -> str:
    """Writes the commit's objects on top of `head` and returns its id: `head` itself where nothing changes.

    The caller is in the repository's `writing` and swaps the ref afterwards.

    Raises:
        HubError: 412, the branch moved from the commit's parent; 400, 404 or 422, an operation cannot be done.
    """
    parent = operations.parent_commit
    if parent is not None and (len(parent) < 7 or not head.startswith(parent)):
        raise branch_moved()
    changes: dict[str, str | None] = {}
    for key, value in operations.lines:
        changes.update(_change(repository, head, key, value))
    _check_card(repository, changes.get("README.md"))
    tree = repository.commit(head).tree
    changed = repository.changed_tree(tree, changes)
    return head if changed == tree else repository.add_commit(changed, [head], new)


def _check_card(repository: Repository, oid: str | None) -> None:
    """Refuses a card whose metadata could not be read by whoever asks for it."""
    if oid is None or repository.blob_head(oid.encode())[1] is not None:
        return
    try:
        read_metadata(repository.content(oid).decode(errors="replace"))
    except ValueError as error:
        raise HubError(400, f"README.md: {error}") from error


def checked_path(path: str) -> str:
    """A path that a file of a repository may have.

    Raises:
        HubError: 422, for anything that could leave the folder it is downloaded to.
    """
    if len(path) > 1000 or ESCAPES.match(path) or _has_controls(path):
        raise HubError(422, f"Invalid path in repository: {path!r}")
    if any(name in ("", ".", "..") or name.lower() == ".git" for name in path.split("/")):
        raise HubError(422, f"Invalid path in repository: {path!r}")
    return path


def _has_controls(path: str) -> bool:
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in path)


def _change(repository: Repository, head: str, key: str, value: Fields) -> dict[str, str | None]:
    path = checked_path(value.text("path").rstrip("/") if key.startswith("deleted") else value.text("path"))
    if key == "file":
        return {path: repository.add_blob(_regular_content(repository, path, value))}
    if key == "lfsFile":
        return {path: _add_pointer(repository, path, value)}
    if key == "copyFile":
        revision, source_path = value.text("srcRevision"), checked_path(value.text("srcPath"))
        commit_id = repository.resolve(revision) if revision else head
        source = repository.entry(commit_id, source_path)
        if source is None or source.is_folder:
            raise entry_not_found(source_path, commit_id)
        return {path: source.oid}
    if key in ("deletedFile", "deletedFolder"):
        present = repository.entry(head, path)
        if present is None:
            raise entry_not_found(path, head)
        if not present.is_folder:
            return {path: None}
        return {entry.path: None for entry in repository.entries(head, path, is_recursive=True) if not entry.is_folder}
    raise HubError(
        400, f"Unknown operation {key!r}: a commit line is file, lfsFile, copyFile, deletedFile or deletedFolder"
    )


def _regular_content(repository: Repository, path: str, value: Fields) -> bytes:
    text = value.text("content")
    content = _decode(text) if value.text("encoding") == "base64" else text.encode()
    if len(content) > REGULAR_BYTES:
        raise HubError(413, f"{path} has more than {REGULAR_BYTES >> 20} MiB: upload it as a large file")
    pointer = parse_pointer(content)
    if pointer is not None and repository.large_files.size(pointer.oid) != pointer.size:
        raise HubError(400, f"{path} points to the large file {pointer.oid}, which was not uploaded")
    return content


def _add_pointer(repository: Repository, path: str, value: Fields) -> str:
    oid = value.text("oid")
    if value.text("algo") != "sha256" or not OID.fullmatch(oid):
        raise HubError(400, f"{path}: a large file is named by algo sha256 and its oid in lower case")
    size = repository.large_files.size(oid)
    if size is None or value.whole_number("size", size) != size:
        raise HubError(400, f"{path} names the large file {oid}, which was not uploaded completely: upload it again")
    return repository.add_blob(LFSPointer(oid, size).to_bytes())


def _lines(spooled: BinaryIO) -> Iterator[tuple[str, Fields]]:
    while line := spooled.readline(LINE_BYTES + 1):
        if len(line) > LINE_BYTES:
            raise HubError(413, f"A regular file has more than {REGULAR_BYTES >> 20} MiB: upload it as a large file")
        if not line.strip():
            continue
        parsed = read_json(line)
        if not isinstance(parsed, dict) or not {"key", "value"} <= parsed.keys():
            raise HubError(400, "Each line of a commit must be a JSON object with key and value")
        line_fields = Fields(parsed)
        yield line_fields.text("key"), line_fields.fields("value")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise HubError(400, "Content is not base64") from error


def _is_binary(sample: bytes) -> bool:
    if b"\0" in sample:
        return True
    for cut in range(4):  # the sample may end within a character
        try:
            sample[: len(sample) - cut].decode()
        except UnicodeDecodeError:
            continue
        return False
    return bool(sample)


def _content_of(repository: Repository, commit_id: str, path: str) -> bytes:
    """Content of a regular file; empty if there is none."""
    entry = repository.entry(commit_id, path)
    is_there = entry is not None and not entry.is_folder and not entry.large_oid
    return repository.read(entry) if is_there and entry is not None else b""
