"""Configurations of training runs: `jomni train NAME`, such as `jomni train tiny_lm` or `jomni train nano/lm`."""
