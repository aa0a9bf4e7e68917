"""takedown: one person out of the workspace, a built release and the Hub.

In: an identity, a release's folder, a repository. Out: a tombstone that keeps the person out, and a receipt of
everything that was removed. `recipients` logs who was given the data.
"""
