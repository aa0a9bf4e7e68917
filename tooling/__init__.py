"""The maintainers' side of Homologous_deepfake.

Data flows one way, each arrow is one file of `tooling.stages`, and the files on disk are the interface
between two stages:

    source videos -> clips -> face crops -> plan (folds, splits, pairs) -> fakes -> verified -> shards -> card -> Hub
                     ingest   faces         plan                           generate verify      build     card    push

Two stages lead back into a workspace: `importing` from an archive, `pull` from a Hub. What concerns releases as a whole
lies beside the stages: `report` (a page to look at before), `previews` (what anyone may see), `diff` (two releases),
`takedown` (one person out of everything), `access` (who gets the data), `remote` (a repository at a Hub), `hub` (a Hub
of one's own).

`cli` parses, calls one stage and prints. `workspace` knows every path, `records` every row, `settings` every
default, `errors` every way to fail. Those who make, check or take in pixels call the GPU side (`generation`); those who
make or read rows import the dataset's definition (`homologous_deepfake`); what they all stand on imports neither.
"""

__version__ = "0.1.0"
