"""Checkpoints: detect, load and save them, from folders, files and the Hugging Face hub."""
