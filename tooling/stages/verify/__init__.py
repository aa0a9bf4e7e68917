"""verify: every file against its record, its subset's contract, its target and all other files.

In: the whole workspace. Out: findings, each with its kind and path, and verification.parquet, by which `tooling push`
knows that the very files it sends were verified.

    run           one verification: what is known, what has to be checked, and what is found
    state         what a verification knows and hands to its workers
    checking      decoding by processes side by side, and comparing all files
    file_check    what the check of one file leaves
    group         one person's clip, crop and fakes decoded side by side, each file once, and the choice of meters
    video_pass    one pass over a video file: contract, container, encoder settings, frames
    meters/       what is measured meanwhile
    signatures    manifest and label
    people        consent, folds, pairs, counterparts, files without a record, stale inputs
    duplicates    content that is there twice
    table         rows of verification.parquet, and the checks of unchanged files

Levels are 8-bit levels of luma. Limits were measured on rendered and on filmed clips; each says on which.
"""
