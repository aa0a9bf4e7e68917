"""Parts of attribute editing without weights: age, hair colour, wrinkles."""
