"""Expression driving with MCNET: in go a still of the target and the source's keypoints, out come driven crops.

Hong and Xu 2023, "Implicit Identity Representation Conditioned Memory Compensation Network for Talking Head Video
Generation".
"""
