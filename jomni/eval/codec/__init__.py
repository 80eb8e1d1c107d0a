"""Evaluation of codecs."""
