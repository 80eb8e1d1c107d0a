"""A model as a newcomer adds one: this folder, and one line in `jomni.checkpoints.registry` (here by the test)."""
