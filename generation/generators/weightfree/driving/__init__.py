"""Parts of expression driving: in go a key frame of the target and the source's motion, out comes the driven crop."""
