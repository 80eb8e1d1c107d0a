"""One training task per model: its data, losses and update."""
