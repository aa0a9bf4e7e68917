"""The default generators, without published weights and without a GPU: swap, drive, edit and faces.

In go clips with their landmarks (for faces: prompts and seeds), out come aligned crops with masks, or portraits.
"""
