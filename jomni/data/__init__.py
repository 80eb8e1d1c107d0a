"""Data: manifests read and checked, codes cached, and endless batches of audio or codes from Grain.

No model code: what encodes audio is handed in. Names are imported when first used.
"""

# ruff: noqa: F401 (names for type checkers)
from typing import TYPE_CHECKING

from jomni.lazy import lazily

_HOME = {
    "Alignment": "jomni.data.alignment",
    "Conversation": "jomni.data.codes",
    "Encoder": "jomni.data.tokenize",
    "Header": "jomni.data.codes",
    "Item": "jomni.data.manifest",
    "Needs": "jomni.data.manifest",
    "Pieces": "jomni.data.alignment",
    "Report": "jomni.data.manifest",
    "Word": "jomni.data.alignment",
    "Turn": "jomni.data.omni",
    "align": "jomni.data.alignment",
    "check_manifest": "jomni.data.manifest",
    "train_tokenizer": "jomni.data.text",
    "plan_tokenization": "jomni.data.tokenize",
    "read_header": "jomni.data.codes",
    "read_manifest": "jomni.data.manifest",
    "read_turns": "jomni.data.omni",
    "write_turns": "jomni.data.omni",
    "audio_dataset": "jomni.data.segments",
    "lm_dataset": "jomni.data.windows",
    "phone_inventory": "jomni.data.teachers",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from jomni.data.alignment import Alignment, Pieces, Word, align
    from jomni.data.codes import Conversation, Header, read_header
    from jomni.data.manifest import Item, Needs, Report, check_manifest, read_manifest
    from jomni.data.omni import Turn, read_turns, write_turns
    from jomni.data.segments import audio_dataset
    from jomni.data.teachers import phone_inventory
    from jomni.data.text import train_tokenizer
    from jomni.data.tokenize import Encoder, plan_tokenization
    from jomni.data.windows import lm_dataset

__getattr__, __dir__ = lazily(__name__, _HOME)
