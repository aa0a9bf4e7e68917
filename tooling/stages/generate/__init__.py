"""generate: a workspace with clips, tracks and plan.json in; the fakes of a subset, their masks and their records out.

run        checks the request, and chooses the generator
request    what to make and with what; the generator in a worker, seeds, the second attempt
inputs     consent, and exactly the recorded files
clips      face swap, expression driving, attribute editing: the tasks, and making one of them
described  what generators say of themselves, remembered, so that a run with nothing to make imports no torch
job        the same generation as a job at Hugging Face
images     full-face generation: the same, one generator per fold, no near-duplicates
"""
