"""`python -m jomni`: the same as the command `jomni`."""

from jomni.cli.main import command

if __name__ == "__main__":
    command()
