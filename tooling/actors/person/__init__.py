"""Who an actor is: a seed and a gender in; meshes, textures, strands and landmark vertices of one person out.

identity                      every parameter of a person, drawn from the seed
head, features, skin, body    meshes with their textures and materials
hair, combing                 strands, and how a style combs them
expression                    how a pose opens the eyes and moves mouth and brows
landmarks                     which vertices the 68 landmarks are
"""
