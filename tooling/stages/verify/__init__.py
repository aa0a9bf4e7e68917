"""What `tooling verify` looks at, by theme; `tooling.stages.verify.run` puts it together.

    contract        what a file of a subset must be
    media           container, encoder settings, full decode, frame by frame
    group           one person's clip, its crop and every fake of it, decoded side by side, each file once
    against_target  a fake beside its target: equal outside of the mask, different inside, in step
    in_step         which frame of a reference each frame shows
    motion          a driven mouth beside its source's
    crops           the crop beside its clip; one face, centred and steady
    looks           descriptors for near-duplicates, brightness, sharpness
    swaps           landmarks and identity of a swap
    images          generated images
    marks           manifest and label
    people          who is in it: consent, folds, pairs, counts, orphans, inputs
    duplicates      identical and nearly identical content
    table           verification.parquet, and what of it still holds

All levels are 8-bit levels of luma. Limits were measured on rendered and on filmed clips; each says on which.
"""
