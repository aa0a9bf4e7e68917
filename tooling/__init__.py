"""The maintainers' side of Homologous_deepfake: from source videos to a published release, and back.

Data flows one way. Each arrow is one stage, and the files in a workspace are the interface between two stages:

    sources -> clips -> face crops -> plan -> fakes -> findings -> shards -> card -> repository on a Hub
            ingest  faces         plan    generate  verify   build     card    push
                                                    audit

`importing` leads from an archive into a workspace, `pull` from a repository. Rooms, from the ground up; a room imports
only those above it in this list:

    errors, settings, console    every way to fail, every default, what is printed
    workspace                    every path and row of a workspace; files that appear complete or not at all
    marks, remote, hub           manifests and labels in files; a repository on a Hub; a Hub of one's own
    work, release                items side by side, with resume; a built release, its shards, and how two differ
    views, actors                previews, contact sheet, report; synthetic actors as input of demo and tests
    stages                       the flow; no stage imports another
    takedown                     one person out of everything
    cli                          the `tooling` command: parses, calls one function, prints; the demo calls them all

`generation` makes and measures pixels and knows nothing of this package. `homologous_deepfake` defines the dataset.
"""

__version__ = "0.1.0"
