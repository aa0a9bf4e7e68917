"""generate: the plan and clips in, fakes and their masks out."""
