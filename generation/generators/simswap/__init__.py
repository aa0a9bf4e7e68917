"""Face swap with SimSwap: in go aligned crops and the source's identity, out come crops with that identity and masks.

Chen et al. 2020, "SimSwap: An Efficient Framework For High Fidelity Face Swapping".
"""
