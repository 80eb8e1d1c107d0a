"""Training: one loop (`jomni.train.loop.train`), one task per model, and configurations as Python files."""
