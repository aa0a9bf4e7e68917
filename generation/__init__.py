"""The GPU side: video -> faces -> crops -> generator -> pasted frame -> checked."""
