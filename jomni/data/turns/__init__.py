"""Spoken question-answer turns for turn-based models."""
