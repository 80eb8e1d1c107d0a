"""Training: one loop (`jomni.train.loop.train`), tasks that say what a step does, configurations as Python files."""
