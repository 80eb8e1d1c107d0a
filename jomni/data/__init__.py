"""Data: manifests read and checked, codes cached, and endless batches of audio or codes from Grain.

No model code: what encodes audio is handed in. Names are imported when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Item": "jomni.data.manifest",
    "Needs": "jomni.data.manifest",
    "Report": "jomni.data.manifest",
    "check_manifest": "jomni.data.manifest",
    "read_manifest": "jomni.data.manifest",
    "audio_dataset": "jomni.data.segments",
    "phone_inventory": "jomni.data.teachers",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from jomni.data.manifest import Item, Needs, Report, check_manifest, read_manifest  # noqa: F401
    from jomni.data.segments import audio_dataset  # noqa: F401
    from jomni.data.teachers import phone_inventory  # noqa: F401


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jomni.data' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
