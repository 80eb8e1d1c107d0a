"""Segments of recordings for codecs and speech encoders."""
