"""Data: manifests read and checked, codes cached, and endless batches of audio or codes from Grain.

No model code: what encodes audio is handed in. Names are imported when first used.
"""

# ruff: noqa: F401 (names for type checkers)
from typing import TYPE_CHECKING

from jomni.lazy import lazily

_HOME = {
    "Alignment": "jomni.data.conversations.alignment",
    "Conversation": "jomni.data.conversations.codes",
    "Encoder": "jomni.data.conversations.tokenize",
    "Header": "jomni.data.conversations.codes",
    "Item": "jomni.data.manifest",
    "Needs": "jomni.data.manifest",
    "Pieces": "jomni.data.conversations.alignment",
    "Report": "jomni.data.manifest",
    "Word": "jomni.data.conversations.alignment",
    "Turn": "jomni.data.turns.parquet",
    "align": "jomni.data.conversations.alignment",
    "check_manifest": "jomni.data.manifest",
    "train_tokenizer": "jomni.data.text",
    "plan_tokenization": "jomni.data.conversations.tokenize",
    "read_header": "jomni.data.conversations.codes",
    "read_manifest": "jomni.data.manifest",
    "read_turns": "jomni.data.turns.parquet",
    "write_turns": "jomni.data.turns.parquet",
    "audio_dataset": "jomni.data.recordings.segments",
    "lm_dataset": "jomni.data.conversations.windows",
    "phone_inventory": "jomni.data.recordings.teachers",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from jomni.data.conversations.alignment import Alignment, Pieces, Word, align
    from jomni.data.conversations.codes import Conversation, Header, read_header
    from jomni.data.conversations.tokenize import Encoder, plan_tokenization
    from jomni.data.conversations.windows import lm_dataset
    from jomni.data.manifest import Item, Needs, Report, check_manifest, read_manifest
    from jomni.data.recordings.segments import audio_dataset
    from jomni.data.recordings.teachers import phone_inventory
    from jomni.data.text import train_tokenizer
    from jomni.data.turns.parquet import Turn, read_turns, write_turns

__getattr__, __dir__ = lazily(__name__, _HOME)
