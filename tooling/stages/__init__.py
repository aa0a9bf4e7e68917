"""The stages of the flow: one room or module each, called by one command each. No stage imports another.

ingest     source videos          -> raw_video, masters
faces      raw_video              -> face_video, tracks
plan       clips, consent         -> plan.json: folds, splits, pairs
generate   clips, tracks, plan    -> the fakes of a subset and their masks
sign       files, new keys        -> the same files with new marks
verify     every file             -> verification.parquet: measurements and findings
audit      fakes and real files   -> audit.json: how well simple probes tell them apart
build      verified workspace     -> a release: Parquet shards
card       release                -> dataset card, datasheet, terms, citation, Croissant
push       release                -> a dataset repository on a Hub
pull       a repository           -> a workspace
importing  an archive             -> a workspace
"""
