"""report: one page to open before a release is pushed, with pictures, plots, findings, audit and changes.

In: the workspace as it is, its last verification and audit, and an earlier release to compare with. Out: one HTML file.

    page          writes the file
    overview      what the workspace knows about itself, read once
    checklist     what stands between the workspace and a release
    audit_matrix  the audit by probe and subset
    grids         which pictures stand beside which
    posters       posters and excerpts, within a number of bytes
    plots         geometry of the plots
    page.*        template, style and script
    parts.*       parts of the template
"""
