"""Speed of this project's code beside the usual formulation of the same work, both measured in turn in one run."""
