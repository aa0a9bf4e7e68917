"""The embedded Hub: the part of the Hugging Face Hub's HTTP API that dataset repositories need.

In: a root folder and the requests of an unmodified huggingface_hub, datasets, HfFileSystem or `hf`. Out: their
responses; what was committed lies below the root. Models, Spaces, collections, likes and comments are not served.

    commands, server                          `tooling hub`; uvicorn on loopback, in a thread or as a process
    app, call, answers                        routes, authentication, request ids, access log; errors and pages
    files, revisions, repos, community        the endpoints, one function each
    hub                                       one open root folder: repositories are created, moved, deleted here
    commits, history, graph, repository       git (dulwich): the ndjson commit; merge, squash, rewriting; refs, trees
    large_files                               a content-addressed folder per repository; signed upload addresses
    access, gates, discussions, cards         tokens and rights; gated repositories; pull requests; the YAML check
    database                                  one sqlite3 file for everything that is not a file

On disk below the root: `hub.sqlite3`, `repos/{key}/` (a bare git repository with `lfs/` in it), `uploads/` and
`trash/`. A commit exists from the moment its ref is swapped; whatever a killed server leaves beside that is removed
when the root is opened again. Xet is not served: clients set HF_HUB_DISABLE_XET=1, and the xet token endpoints
answer 404 saying so.
"""
