"""The maintainers' side of Homologous_deepfake.

Data flows one way, each arrow is one file of `tooling.stages`, and the files on disk are the interface
between two stages:

    source videos -> clips -> face crops -> plan (folds, splits, pairs) -> fakes -> verified -> shards -> card
                     ingest   faces         plan                           generate verify      build     card

`cli` parses, calls one stage and prints. `workspace` knows every path, `records` every row, `settings` every
default, `errors` every way to fail. Only ingest, faces, generate and verify call the GPU side (`generation`);
only shards imports the dataset's definition (`homologous_deepfake`) together with `datasets`.
"""

__version__ = "0.1.0"
