"""The receipt of a takedown: what went, when, from where, and what the Hub answered.

    WORKSPACE/takedowns/{identity}.json

It contains digests and numbers; of the person, only the identity's number.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tooling.workspace.decoding import read_json
from tooling.workspace.files import write_text
from tooling.workspace.layout import Workspace
from tooling.workspace.plan_file import Pair
from tooling.workspace.records import natural_key

FORMAT = 1


@dataclass
class Receipt:
    """One receipt, saved after each step.

    Attributes:
        path: of the receipt itself; not in it.
        identity, date: who, and the ISO 8601 day of the first run.
        samples: sample_id -> sha256 of each media file.
        files: path in the workspace -> sha256 of each removed file.
        pairs: subset -> planned pairs that were dropped.
        releases: folder name -> {"has_card", "shards": {path: {"before", "after", "rows"}}}; `after` is null where
            the shard went because its split is empty now.
        hubs: repository -> {"commit", "purge"}; `purge` is null where old revisions were left.
        recipients: user who was given the data -> repository: they must be notified.
        unfinished: what could not be removed from the workspace in the last run, one line each.
        notes: what else could not be done then: a new card, the list of recipients.
        is_complete: whether the last run did all that it was asked.
    """

    path: Path
    identity: str
    date: str
    samples: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    releases: dict[str, dict[str, Any]] = field(default_factory=dict)
    hubs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recipients: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_complete: bool = False

    @classmethod
    def new(cls, workspace: Workspace, identity: str, date: str) -> Receipt:
        return cls(receipt_path(workspace, identity), identity, date)

    def note(self, samples: dict[str, str], files: dict[str, str], pairs: dict[str, list[Pair]]) -> None:
        """Adds what is about to go to what went before."""
        self.samples = _sorted({**samples, **self.samples})
        self.files = _sorted({**files, **self.files})
        for subset, found in pairs.items():
            known = self.pairs.setdefault(subset, [])
            known += [pair for pair in found if pair not in known]

    def release(self, out: Path) -> dict[str, Any]:
        """The entry of a release's folder."""
        return self.releases.setdefault(out.resolve().name, {"has_card": False, "shards": {}})

    def hub(self, repo_id: str) -> dict[str, Any]:
        """The entry of a repository."""
        return self.hubs.setdefault(repo_id, {"commit": None, "purge": None})

    def save(self) -> None:
        content = {
            "format": FORMAT,
            **{name: value for name, value in dataclasses.asdict(self).items() if name != "path"},
        }
        write_text(self.path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def receipt_path(workspace: Workspace, identity: str) -> Path:
    return workspace.path(f"takedowns/{identity}.json")


def read_receipt(workspace: Workspace, identity: str) -> Receipt | None:
    """The receipt of an earlier run; None where there was none.

    Raises:
        WorkspaceError: it is damaged or of a newer format.
    """
    path = receipt_path(workspace, identity)
    if not path.exists():
        return None
    way_out = "move it away and run the takedown again"
    return read_json(path, Receipt, way_out, newest_format=FORMAT, given={"path": path})


def _sorted(found: dict[str, str]) -> dict[str, str]:
    return dict(sorted(found.items(), key=lambda item: natural_key(item[0])))
