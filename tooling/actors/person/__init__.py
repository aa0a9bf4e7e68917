"""Who an actor is: the shape, skin, hair and clothes of one synthetic person."""
