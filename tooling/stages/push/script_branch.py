"""The branch `script` of a repository: the loading script for users of datasets 3.6, and no shard in its history.

The branch main never holds the script: datasets 4 and later refuse a repository that does.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import HfHubHTTPError

import homologous_deepfake
from tooling.remote import (
    MAX_TRIES,
    Remote,
    branch_heads,
    explaining,
    file_matches,
    patiently,
    remote_files,
    remote_head,
)
from tooling.stages.push.comparison import MAIN, SCRIPT

SCRIPT_BRANCH = "script"


def push_script(remote: Remote) -> None:
    """Puts the loading script on its branch if it is not there as it is here; main's history is left alone.

    Raises:
        RemoteError: the Hub refuses or cannot be reached.
    """
    path, api = Path(homologous_deepfake.__file__), remote.api
    kept = (".gitattributes", SCRIPT)

    def commit() -> None:
        found = remote_files(remote, SCRIPT_BRANCH)
        operations: list[CommitOperationAdd | CommitOperationDelete]
        operations = [CommitOperationDelete(name) for name in found if name not in kept]
        if SCRIPT not in found or not file_matches(path, found[SCRIPT]):
            operations.append(CommitOperationAdd(SCRIPT, path.read_bytes()))
        if operations:
            api.create_commit(
                **remote.arguments,
                operations=operations,
                commit_message="Loading script for datasets 3.6",
                revision=SCRIPT_BRANCH,
                parent_commit=remote_head(remote, SCRIPT_BRANCH),
            )

    def oldest(branch: str) -> str:
        return patiently(lambda: api.list_repo_commits(**remote.arguments, revision=branch))[-1].commit_id

    heads = branch_heads(remote)
    with explaining(remote):
        if SCRIPT_BRANCH not in heads:
            first = oldest(MAIN)  # has no shards, unless the history was squashed
            patiently(
                lambda: api.create_branch(**remote.arguments, branch=SCRIPT_BRANCH, revision=first, exist_ok=True)
            )
        for attempt in range(MAX_TRIES):
            try:
                patiently(commit)
            except HfHubHTTPError as error:
                if error.response.status_code != 412 or attempt == MAX_TRIES - 1:
                    raise
            else:
                break  # else another push was faster, perhaps with the same script
        if not remote_files(remote, oldest(SCRIPT_BRANCH)).keys() <= set(kept):
            patiently(lambda: api.super_squash_history(**remote.arguments, branch=SCRIPT_BRANCH))
