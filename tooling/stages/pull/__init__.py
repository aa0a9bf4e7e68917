"""pull: a release at a Hub in, a workspace out, every byte checked."""
