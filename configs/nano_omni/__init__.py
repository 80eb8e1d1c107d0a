"""Runs that made nano_omni, the bundled turn-based model."""
