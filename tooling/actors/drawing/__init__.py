"""How an actor is drawn: camera, lights, shadows, strands, backdrop."""
