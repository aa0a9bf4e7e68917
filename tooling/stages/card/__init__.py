"""card: a built release and its workspace in; the dataset card, a picture of the fakes and the papers out.

run     README.md of the release, from the repository's README.md and the shards
papers  datasheet, terms, takedown page, citation, Croissant, the gate's texts
"""
