"""Checks of fakes, on their pixels, so that nothing broken is accepted silently.

In: pasted frames while a fake is written (`output`), frames of a finished fake and its target (`presence`,
`swap_quality`), generated images (`presence`, `descriptor`), small pictures of two files (`descriptor`, `copies`). Out:
measurements, problems in words, or a RejectedOutputError.
"""
