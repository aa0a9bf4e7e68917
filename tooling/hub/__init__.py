"""The embedded Hub: the part of the Hugging Face Hub's HTTP API that dataset repositories need.

In: a root folder and the requests of an unmodified huggingface_hub, datasets, HfFileSystem or `hf`. Out: their
responses; what was committed lies below the root. Models, Spaces, collections, likes and comments are not served.

    server                                    uvicorn on loopback, in a thread or as a process
    routes, call, fields, responses           routes, authentication, request ids, access log; bodies; errors and pages
    endpoints                                 one function each: content, revisions, repos, community
    root                                      one open root folder: repositories are created, moved, deleted here
    rights, gates, cards                      tokens and rights; gated repositories; the YAML of cards
    store                                     git (dulwich): commits, history, graph, patterns, repository; large_files:
                                              a folder by digest per repository, signed upload addresses; discussions:
                                              pull requests; database: one sqlite3 file for everything that is no file

On disk below the root: `hub.sqlite3`, `repos/{key}/` (a bare git repository with `lfs/` in it), `uploads/` and
`trash/`. A commit exists from the moment its ref is swapped; whatever a killed server leaves beside that is removed
when the root is opened again. Xet is not served: clients set HF_HUB_DISABLE_XET=1, and the xet token endpoints
lead to an address that says so and answers 404.
"""
