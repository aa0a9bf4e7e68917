"""Which command reads which file of the scene, what it may write, and how it must end on one that is broken."""

from __future__ import annotations

import dataclasses
import os
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.flow.soak.mutator import break_file
from tests.flow.soak.scene import RELEASE
from tooling.errors import ToolingError
from tooling.release.shards import rewrite_checksums
from tooling.workspace.files import file_sha256, write_text
from tooling.workspace.layout import open_workspace
from tooling.workspace.path_kinds import unknown_paths
from tooling.workspace.records import format_record

KINDS = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".json": "json",
    ".toml": "toml",
    ".mp4": "mp4",
    ".png": "png",
    ".pem": "pem",
}
KINDS |= {".parquet": "parquet", ".zip": "zip", ".gz": "tar", ".onnx": "onnx", ".safetensors": "safetensors"}
KINDS |= dict.fromkeys((".pth", ".pt", ".tar", ".pkl"), "pickle")
ROWS = "workspace.toml identities.csv plan.json tombstones.jsonl */metadata.jsonl"
CLIPS = "raw_video/*.mp4 face_video/*.mp4 tracks/*.json"
FAKES = "swap_video/*.mp4 avatarify_video/*.mp4 edit_video/*/*.mp4 masks/*/*.mp4 GAN_images/*.png"
SHARDS = f"{RELEASE}/data/*/*.parquet {RELEASE}/data/*/*.parquet {RELEASE}/checksums* {RELEASE}/README.md"
REPO = "lab/soak"
NAMED = re.compile(r"error: (?:[A-Z]:)?[^\s:]+: \S")  # a file, and what is wrong with it
TORN = (".staging/", ".importing/", ".building", ".new")  # parts of what must not be left by a command that ended


@dataclass(frozen=True)
class Command:
    """One call of `tooling`.

    Attributes:
        line: its arguments.
        reads: patterns of files that are broken for it; those of `place` are relative to that.
        place: the workspace.
        writes: where it may write besides: files and folders of the scene.
        whole: files and folders of the scene that are there as a whole, as they were, or not at all.
        needs: top-level names of the scene that it needs besides the place.
    """

    line: str
    reads: str
    place: str = "workspace"
    writes: str = ""
    whole: str = ""
    needs: str = ""


COMMANDS = (
    Command(
        "ingest sources -w empty -j 1", "sources/*.mp4 sources/*.mp4 sources/identities.csv", "", "empty", needs="empty"
    ),
    Command("ingest sources -w empty -j 1", "workspace.toml keys/*", "empty", needs="sources"),
    Command("ingest sources -w filmed -j 1", f"{ROWS} verification.parquet", "filmed", needs="sources"),
    Command(
        "faces -w filmed -j 1 --only 1", f"{ROWS} raw_video/1.mp4 tracks/1.json face_video/metadata.jsonl", "filmed"
    ),
    Command("plan", f"{ROWS} verification.parquet rejects.jsonl"),
    Command("plan --exclude swap_video/1_2 --reason x --prune", ROWS),
    Command("generate swap_video -w filmed -j 1 --only 1_2", f"{ROWS} {CLIPS}", "filmed"),
    Command("generate edit_video -w filmed -j 1 --only age/1 --factor 0", f"{ROWS} {CLIPS}", "filmed"),
    Command("generate avatarify_video -w filmed -j 1 --only 1_2", f"{CLIPS}", "filmed"),
    Command(
        "generate swap_video -w filmed -j 1 --only 1_2 --generator onnx:downloads/inswapper_128.onnx",
        "downloads/inswapper_128.onnx downloads/w600k_r50.onnx",
        "",
        "filmed",
        needs="filmed",
    ),
    Command(
        "generate swap_video -w filmed -j 1 --only 1_2 --generator simswap",
        "weights/simswap/* weights/simswap/*/*",
        "",
        "filmed",
        needs="filmed",
    ),
    Command("verify -j 1", f"{ROWS} {CLIPS} {FAKES} verification.parquet rejects.jsonl"),
    Command("verify -j 1 --all", f"{CLIPS} {FAKES}"),
    Command(
        "verify -j 1 --all --identity-encoder downloads/w600k_r50.onnx",
        "downloads/w600k_r50.onnx",
        "",
        "workspace",
        needs="workspace",
    ),
    Command("audit -j 1", f"{ROWS} {CLIPS} {FAKES} audit_measured.jsonl audit.json"),
    Command("build", f"{ROWS} {CLIPS} {FAKES} verification.parquet rejects.jsonl audit.json", whole=RELEASE),
    Command(
        "card",
        f"{ROWS} verification.parquet rejects.jsonl audit.json answers.toml recipients.jsonl",
        writes=RELEASE,
        needs=RELEASE,
    ),
    Command("card", SHARDS, "", f"{RELEASE} workspace/answers.toml", needs="workspace"),
    Command("contact-sheet", f"{ROWS} {CLIPS} {FAKES}", whole="contact_sheet.jpg"),
    Command("previews raw_video swap_video GAN_images -j 1 -o previews", f"{ROWS} {CLIPS} {FAKES}", writes="previews"),
    Command(
        "report -j 1", f"{ROWS} {CLIPS} {FAKES} verification.parquet rejects.jsonl audit.json", whole="report.html"
    ),
    Command(f"push {REPO} --dry-run", f"{ROWS} verification.parquet", needs=RELEASE),
    Command(f"push {REPO} --dry-run", SHARDS, "", needs="workspace"),
    Command("pull lab/broken -w new -j 1", f"{RELEASE}/data/*/*", "", "new"),
    Command(f"diff {RELEASE} other", SHARDS, "", needs="other"),
    Command("takedown 1", f"{ROWS} verification.parquet rejects.jsonl audit_measured.jsonl", needs=RELEASE),
    Command(
        "takedown 1 --yes",
        f"{ROWS} {CLIPS} verification.parquet rejects.jsonl recipients.jsonl",
        writes=RELEASE,
        needs=RELEASE,
    ),
    Command("takedown 1 --yes", SHARDS, "", f"{RELEASE} workspace", needs="workspace"),
    Command("import archive.zip -w waiting -j 1", "archive.zip", "", "waiting", needs="waiting"),
    Command("import archive.tar.gz -w waiting -j 1", "archive.tar.gz", "", "waiting", needs="waiting"),
    Command(
        "import archive -w waiting -j 1", "archive/*/*.mp4 archive/GAN_images/*.png", "", "waiting", needs="waiting"
    ),
    Command(
        "import archive -w waiting -j 1 --reencode",
        "archive/*/*.mp4 archive/GAN_images/*.png",
        "",
        "waiting",
        needs="waiting",
    ),
    Command(
        "import archive.zip -w waiting -j 1", "workspace.toml identities.csv keys/*", "waiting", needs="archive.zip"
    ),
    Command(
        f"score {RELEASE} --detector python:detector.py:score --frames 2",
        SHARDS,
        "",
        ".predictions.parquet.partial",  # from which the next run goes on
        whole="predictions.parquet",
        needs="detector.py",
    ),
    *(
        Command(f"evaluate {name} --release {RELEASE} --resamples 5 -o numbers", name, "", "numbers", needs=RELEASE)
        for name in ("predictions.csv", "predictions.parquet", "predictions.jsonl")
    ),
    Command(f"evaluate predictions.csv --release {RELEASE} --resamples 5", SHARDS, "", needs="predictions.csv"),
    Command(f"export deepfakebench {RELEASE} exported --frames 2", SHARDS, "", "exported"),
    Command(f"export faceforensics {RELEASE} exported --compressions raw,c23", SHARDS, "", "exported"),
    Command("keys show", "workspace.toml keys/*"),
    Command("keys sign -j 1", f"{ROWS} {CLIPS} keys/*"),
    Command(
        "weights convert tiny-faces downloads/zip/tiny_net.pth downloads/zip/tiny_mean.pt -o w",
        "downloads/zip/*",
        "",
        whole="w",
    ),
    Command(
        "weights convert tiny-faces downloads/legacy/old_tiny_net.pth downloads/legacy/old_tiny_mean.pt -o w",
        "downloads/legacy/*",
        "",
        whole="w",
    ),
    Command("weights convert tiny-faces downloads/tiny.tar.gz -o w", "downloads/tiny.tar.gz", "", whole="w"),
    Command(
        "weights convert simswap downloads/latest_net_G.pth downloads/arcface_checkpoint.tar -o w",
        "downloads/latest_net_G.pth downloads/arcface_checkpoint.tar",
        "",
        whole="w",
    ),
    Command("weights convert mcnet downloads/00000099-checkpoint.pth.tar -o w", "downloads/*.pth.tar", "", whole="w"),
    Command(
        "weights convert stylegan3 downloads/stylegan3-t-ffhq-1024x1024.pkl -o w", "downloads/*.pkl", "", whole="w"
    ),
    Command("weights check weights/simswap", "weights/simswap/* weights/simswap/*/*", ""),
    Command("weights check weights/tiny-faces", "weights/tiny-faces/* weights/tiny-faces/*/*", ""),
    Command("access log", "recipients.jsonl workspace.toml"),
    Command("access prune", "recipients.jsonl"),
)


@dataclass(frozen=True)
class Case:
    """One command with one broken file.

    Attributes:
        number: what else is drawn is drawn from it.
        command: what is run.
        path: the broken file, relative to the scene.
        is_recorded: whether its record or the release's checksums say its new digest, so that it is decoded.
    """

    number: str
    command: Command
    path: str
    is_recorded: bool

    def __str__(self) -> str:
        return f"{self.number}: tooling {self.command.line}, {self.path}"


def draw_cases(scene: Path, seed: int, num_cases: int) -> list[Case]:
    """Every command in turn, each time with another of its files."""
    drawn = random.Random(seed)
    cases, order = [], list(COMMANDS)
    for number in range(num_cases):
        if number % len(order) == 0:
            drawn.shuffle(order)
        command = order[number % len(order)]
        patterns = drawn.sample(command.reads.split(), len(command.reads.split()))
        found = next(paths for pattern in patterns if (paths := sorted((scene / command.place).glob(pattern))))
        path = drawn.choice([path for path in found if path.is_file()]).relative_to(scene).as_posix()
        cases.append(Case(f"{seed}-{number}", command, path, drawn.random() < 0.6))
    return cases


def prepare(case: Case, scene: Path, folder: Path) -> str:
    """Copies what the command needs into a new folder and breaks the file; returns what was done to it."""
    command = case.command
    names = {command.place or case.path.partition("/")[0], case.path.partition("/")[0], *command.needs.split()}
    for name in {pattern.partition("/")[0] for pattern in command.reads.split() if not command.place} | names:
        source = scene / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.exists():
            folder.mkdir(exist_ok=True, parents=True)
            shutil.copyfile(source, folder / name)
    path = folder / case.path
    kind = KINDS.get(path.suffix, "json")
    broken, way = break_file(path.read_bytes(), kind, random.Random(case.number))
    path.write_bytes(broken)
    if case.is_recorded:
        _record(folder, case)
    return way


def _record(folder: Path, case: Case) -> None:
    """Makes the record of a workspace's file, or the checksums of a release, those of the broken file."""
    path, digest = folder / case.path, file_sha256(folder / case.path)
    top, _, name = case.path.partition("/")
    if top == RELEASE and path.suffix == ".parquet":
        rewrite_checksums(folder / RELEASE, {name: digest})
    if not case.command.place or path.suffix not in (".mp4", ".png", ".json"):
        return
    workspace = open_workspace(folder / top)
    for subset in {parent.parent.name for parent in workspace.root.glob("*/metadata.jsonl")}:
        records = workspace.records(subset)
        for sample, record in records.items():
            if record.path == name:
                size = path.stat().st_size
                records[sample] = dataclasses.replace(record, sha256=digest, num_bytes=size, unmarked_sha256="")
            if name in record.companions:
                records[sample] = dataclasses.replace(record, companions={**record.companions, name: digest})
        write_text(workspace.records_path(subset), "".join(format_record(one) + "\n" for one in records.values()))


def files_below(folder: Path) -> dict[str, str]:
    """Path -> digest of all files, links not followed."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path) if path.is_symlink() else file_sha256(path)
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def faults(case: Case, folder: Path, before: dict[str, str], code: int | None, out: str, err: str) -> Iterator[str]:
    """What is wrong with how a command ended."""
    if code is None:
        yield "hangs"
    elif code not in (0, 1, 2):
        yield f"ended with {code}"
    for word in ("Traceback", "Exception ignored", "Warning: "):
        if word in err + out:
            yield f"prints {word!r}"
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    if code in (1, 2) and not (errors or " error: " in f" {out}" or "Usage:" in err):
        yield "fails without an error line"
    if errors and not any(NAMED.match(line) or Path(case.path).name in line for line in errors):
        yield "names no file"
    command = case.command
    allowed = [name for name in (command.place, *command.writes.split(), *command.whole.split()) if name]
    after = files_below(folder)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    changed -= {name for name in changed if name.endswith(".lock")}
    for name in sorted(changed):
        if not any(name == place or name.startswith(f"{place}/") for place in allowed):
            yield f"wrote {name}"
        if name in after and any(part in name for part in TORN) and "/.pulling/" not in name:
            yield f"left {name}"
    if code:
        for name in command.whole.split():
            if [other for other in changed if other.startswith(name)]:
                yield f"failed and changed {name}"
    yield from _faults_of_workspaces(case, folder, changed)
    for name in ("tmp", "home"):
        if left := [
            each for each in files_below(folder.parent / name) if "matplotlib" not in each and "hub/" not in each
        ]:
            yield f"left {name}/{left[0]}"


def _faults_of_workspaces(case: Case, folder: Path, changed: set[str]) -> Iterator[str]:
    """New records name whole files, and no file is unknown."""
    for top in {name.partition("/")[0] for name in changed}:
        try:
            workspace = open_workspace(folder / top)
            records = [
                one
                for path in workspace.root.glob("*/metadata.jsonl")
                for one in workspace.records(path.parent.name).values()
            ]
        except ToolingError:
            continue
        for record in records:
            path = workspace.path(record.path)
            if f"{top}/{record.path}" in changed and not (path.is_file() and file_sha256(path) == record.sha256):
                yield f"record of {record.path} is not of its file"
        if unknown := [name for name in unknown_paths(workspace) if f"{top}/{name}" in changed]:
            yield f"left {unknown[0]}, which no workspace has"
