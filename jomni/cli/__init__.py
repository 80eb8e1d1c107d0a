"""The command `jomni`: argument parsing, files and printing. What it computes is in the other packages."""
