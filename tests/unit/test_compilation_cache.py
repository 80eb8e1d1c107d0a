"""The folder of compiled programs stays small: the oldest programs and the folders of other versions are deleted."""

import os
import time

from tests import compilation_cache


def test_the_programs_used_longest_ago_are_deleted_above_the_limit(tmp_path):
    used, now = tmp_path / "used", time.time()
    used.mkdir()
    for name, (read, written) in {"read": (1, 9), "written": (8, 2), "oldest": (7, 7), "old": (6, 6)}.items():
        (used / name).write_bytes(bytes(100))
        os.utime(used / name, (now - 60 * read, now - 60 * written))
    compilation_cache.prepare(used, limit=400)
    assert len(os.listdir(used)) == 4
    compilation_cache.prepare(used, limit=399)
    assert sorted(os.listdir(used)) == ["old", "read", "written"]
    compilation_cache.prepare(used, limit=200)
    assert sorted(os.listdir(used)) == ["read", "written"]


def test_folders_of_other_versions_are_deleted_after_30_days_without_use(tmp_path):
    for name, days in (("ours", 40), ("recent", 29), ("forgotten", 31)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "program").write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - 86_400 * days,) * 2)
    compilation_cache.prepare(tmp_path / "ours")
    assert sorted(os.listdir(tmp_path)) == ["ours", "recent"] and (tmp_path / "ours/program").exists()
