"""push: a release that was built and verified goes in; a dataset repository at a Hub, tagged and read back, comes out.

    prepare (local checks, comparison with the Hub) -> send (create, upload, commit, tag) -> script branch -> read back

`run.push_release` is that line; the command stops in the middle, after `prepare_push`, to show what would change.
"""
