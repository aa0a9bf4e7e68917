"""The soak: commands killed at random moments, and commands given broken inputs.

`mutator` breaks files, `scene` makes the files that are broken, `cases` says which command reads which of them, `child`
runs one command in a process of its own, which may be killed. Few run with the fast tests; `make soak` runs all.
"""
