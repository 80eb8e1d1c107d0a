"""Sampling, controls, tokenizers and chat templates, shared by the inference code of all models."""
