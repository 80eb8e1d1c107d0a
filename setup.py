"""Maps the folder configs/ to the package `jomni.configs`; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

configs = [folder.parent for folder in sorted(Path("configs").rglob("__init__.py"))]
setup(
    packages=[*find_packages(include=["jomni*"]), *(f"jomni.{'.'.join(folder.parts)}" for folder in configs)],
    package_dir={"jomni.configs": "configs"},
)
