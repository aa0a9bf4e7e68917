"""Parts of expression driving without weights: the driving clip, the key frame, lids and mouth."""
