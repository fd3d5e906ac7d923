"""Protocols: ways of measuring an encoder, each a file that says the whole of it."""
