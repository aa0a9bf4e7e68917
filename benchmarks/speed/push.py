"""Bytes that a push sends: of a release of 100 people, of the same again, and after one person was taken down, the one
of whom most would be sent.

The clips are tiny, the shards and row groups as many as in a release of full size. The Hub is the embedded one, which
takes files whole; one that stores equal chunks once needs less.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from benchmarks.counted_hub import REPO, counted_hub
from benchmarks.measuring import Line, Setup, alone
from homologous_deepfake import SUBSETS, people_of

DATE = "2026-01-01"


def measure(setup: Setup) -> Iterator[Line]:
    """What is sent at each step."""
    num_people, folder = 12 if setup.is_small else 100, setup.folder / "push"
    folder.mkdir(exist_ok=True)
    total = alone(make_release, folder, num_people).value
    with counted_hub(folder) as traffic:
        alone(push, folder)
        first = traffic.uploaded
        traffic.start()
        alone(push, folder)
        unchanged, requests = traffic.uploaded, traffic.requests
        person, share = max(alone(shares, folder).value.items(), key=lambda item: item[1])
        traffic.start()
        alone(take_down, folder, person)
        sent = traffic.uploaded
    size = f"{num_people} people, {total / 1e6:.1f} MB"
    detail = f"{size}, of which the first push sent {first / 1e6:.1f}; {requests} requests"
    yield Line("sent by an unchanged push", unchanged, "bytes", at_most=0, detail=detail)
    detail = f"{size}; {sent / 1e6:.2f} MB of person {person}, with whom the largest share of shards is, {share:.3f}"
    yield Line("sent by the takedown of one person", sent / total, "of the release's bytes", at_most=0.1, detail=detail)


def make_release(folder: Path, num_people: int) -> int:
    """A workspace of all subsets whose files count as verified, and its release with card; returns its bytes."""
    from tests.workspaces import make_workspace
    from tooling.stages.build import build_release
    from tooling.stages.card.run import make_card
    from tooling.workspace.layout import open_workspace
    from tooling.workspace.verification_file import VerifiedFile, write_verification

    root, out = folder / "workspace", folder / "release"
    with mock.patch("os.fsync"):  # nothing here outlives the run
        if not (root / "plan.json").exists():
            make_workspace(root, num_people // 2, num_people // 2, 5)
        workspace = open_workspace(root)
        records = [record for subset in SUBSETS for record in workspace.records(subset).values()]
        write_verification(workspace, (VerifiedFile(record.path, record.sha256) for record in records))
        build_release(workspace, out)
        make_card(workspace, out)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def push(folder: Path) -> None:
    from tooling.stages.push.prepare import PushOptions
    from tooling.stages.push.run import push_release
    from tooling.workspace.layout import open_workspace

    push_release(open_workspace(folder / "workspace"), folder / "release", REPO, PushOptions())


def shares(folder: Path) -> dict[str, float]:
    """Person -> bytes of the shards with the person, of the release's."""
    import pyarrow.parquet as pq

    of_person: dict[str, int] = {}
    total = 0
    for path in (folder / "release" / "data").glob("*/*.parquet"):
        names = pq.read_table(path, columns=["sample_id"])["sample_id"].to_pylist()
        total += path.stat().st_size
        for person in {person for name in names for person in people_of(name)}:
            of_person[person] = of_person.get(person, 0) + path.stat().st_size
    return {person: num_bytes / total for person, num_bytes in of_person.items()}


def take_down(folder: Path, person: str) -> None:
    """On a copy of the workspace, so that the next run finds it whole."""
    from tooling.takedown import run
    from tooling.workspace.layout import open_workspace

    shutil.copytree(folder / "workspace", folder / "left", dirs_exist_ok=True)
    run.take_down(open_workspace(folder / "left"), run.TakedownRequest(person, DATE, folder / "release", REPO))
    shutil.rmtree(folder / "left")
