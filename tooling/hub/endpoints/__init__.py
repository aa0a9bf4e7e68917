"""The endpoints of the embedded Hub, one function each."""
