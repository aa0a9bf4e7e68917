"""How an actor is drawn: meshes, strands and a pose in; an RGB frame and its landmarks out.

render    one actor's renderer: poses the meshes, lights them, draws them in order
raster    triangles and the final image; the other modules draw into its buffers
strands   hair, lashes, brows and the rims of glasses
lighting  lights and shading; shadow: shadow maps and ambient occlusion
backdrop  the room behind
"""
