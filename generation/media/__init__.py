"""Video files and their frames: read, brought to one shape and rate, and written in one form.

In: source videos as cameras and exports leave them (`source`, `normalise`), files of the dataset (`reader`).
Out: frames RGB uint8 (H, W, 3) one at a time, MP4 files whose codec, GOP, bitrate and size say nothing about the label
(`writer`, `padding`), and text fields in files that exist (`tags`).
"""
