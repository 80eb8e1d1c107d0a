"""What the generate modules of all models share: sampling, controls, tokenizers, chat templates."""
