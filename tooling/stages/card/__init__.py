"""card: shards in, the dataset card and the papers of a release out."""
