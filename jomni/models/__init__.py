"""One folder per model: configuration, modules, weight map, inference."""
