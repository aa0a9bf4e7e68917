"""Square crops around a face, and the way back into the frame.

In: a `FaceClip`: frames RGB uint8 (H, W, 3) and the five landmarks in each.
Out: batches of aligned crops RGB uint8 (N, S, S, 3), whose landmarks lie where a template says (`align`, `templates`);
then, from new crops and their masks float32 (S, S), pasted frames (`paste`) and a video of the masks (`masks`).
`kept` holds the crops of a clip that is read several times; `blending` and `outline` draw masks and fit light, without
weights.
"""
