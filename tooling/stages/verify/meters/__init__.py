"""What is measured of a file while it is decoded: one meter for each theme, all of one protocol.

In: decoded frames, with the frames of the target's clip. Out: measurements and findings in the file's `FileCheck`.

    meter             the protocol, and the forms of a decoded frame
    descriptors       what a video shows: digest, descriptors for near-duplicates, size and sharpness of its face
    views             small pictures that tell a copy from another film
    raw_clip          a clip: it moves, and its face is upright
    crops             a crop beside its clip; one face, centred and steady
    masks             a fake's mask: whole, as large and as long as its fake, not black
    against_target    a fake beside its target: equal outside of the mask, different inside, in step
    in_step           which frame of a reference each frame shows
    mouths            a driven mouth beside its source's
    swaps             landmarks of a swap
    recognition       whose face a file shows
    shown             excerpts for the report
    statistics        plain pixels, for the audit
    stills            generated images
"""
