"""The stages, in the order of the flow: one room or module for each, and none imports another."""
