"""Runs that made nano, the bundled full-duplex model."""
