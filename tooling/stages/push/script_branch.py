"""The branch `script` of a repository: the loading script for users of datasets 3.6, and no shard in its history.

The branch main never has the script: datasets 4 and later refuse a repository that does.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete

import homologous_deepfake
from tooling.remote import MAX_TRIES, Remote, RemoteError, file_matches
from tooling.stages.push.comparison import MAIN, SCRIPT

SCRIPT_BRANCH = "script"
KEPT = (".gitattributes", SCRIPT)


def push_script(remote: Remote) -> None:
    """Puts the loading script on its branch unless the branch has it as it is here; main's history is left alone.

    Raises:
        RemoteError: the Hub refuses or cannot be reached.
    """
    if SCRIPT_BRANCH not in remote.branches():
        first = remote.history(MAIN)[-1].commit_id  # has no shards, unless the history was squashed
        remote.call("create_branch", branch=SCRIPT_BRANCH, revision=first, exist_ok=True)
    for attempt in range(1, MAX_TRIES + 1):
        try:
            _commit_script(remote)
            break
        except RemoteError as error:
            # Another push was faster, perhaps with the same script, or the answer was lost.
            if (error.kind != "changed" and not error.is_transient) or attempt == MAX_TRIES:
                raise
            if error.is_transient:
                error.wait(attempt)
    if not remote.files(remote.history(SCRIPT_BRANCH)[-1].commit_id).keys() <= set(KEPT):
        remote.call("super_squash_history", branch=SCRIPT_BRANCH)


def _commit_script(remote: Remote) -> None:
    path, head = Path(homologous_deepfake.__file__), remote.head(SCRIPT_BRANCH)
    found = remote.files(head)
    operations: list[CommitOperationAdd | CommitOperationDelete]
    operations = [CommitOperationDelete(name) for name in found if name not in KEPT]
    if SCRIPT not in found or not file_matches(path, found[SCRIPT]):
        operations.append(CommitOperationAdd(SCRIPT, path.read_bytes()))
    if operations:
        remote.call(
            "create_commit",
            operations=operations,
            commit_message="Loading script for datasets 3.6",
            revision=SCRIPT_BRANCH,
            parent_commit=head,
        )
