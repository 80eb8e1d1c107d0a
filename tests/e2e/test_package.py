"""The wheel: it brings the models and recordings along."""

import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.slow


def test_the_wheel_brings_models_recordings_and_configurations_along(tmp_path):
    source = tmp_path / "source"  # a copy, as building leaves files in its folder
    shutil.copytree(ROOT / "jomni", source / "jomni", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", source / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run([*command, str(source)], check=True, timeout=300)
    (wheel,) = tmp_path.glob("jomni-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assets = ROOT / "jomni/assets"
    wanted = {str(path.relative_to(ROOT)) for path in assets.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert len(wanted) > 10 and wanted <= names, sorted(wanted - names)
    assert {"jomni/configs/tiny_lm.py", "jomni/configs/nano/lm.py", "jomni/__init__.pyi"} <= names
    assert not [name for name in names if name.startswith(("tests/", "tools/", "configs/"))]
