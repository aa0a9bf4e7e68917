"""Attribute editing with StyleGANEX."""
