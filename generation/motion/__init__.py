"""What moves in a face: pose, expression and dense motion within one clip, measured without weights."""
