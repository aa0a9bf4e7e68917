"""Making many files: the same function on every item, in worker processes or on Ray.

In: tasks, each with what is known of a record beforehand. Out: marked and recorded files, and by name what was made,
kept and refused; a rerun makes only what is missing.
"""
