"""What maintainers look at and show: a workspace's files and measurements in, pictures and pages out.

previews       small marked copies that may be shown to anyone; fakes with a visible label
excerpts       two seconds of each video, kept by a verification for the report
contact_sheet  the fakes beside what they were made from, in one JPEG
report         one HTML page to read before a push
"""
