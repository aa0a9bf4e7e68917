"""The work folder: every path in it, files that appear whole or not at all, and the rows of what is finished."""
