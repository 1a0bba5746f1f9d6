"""Pure nouns: frozen values that every room may hold, with no behaviour beyond their own arithmetic."""
