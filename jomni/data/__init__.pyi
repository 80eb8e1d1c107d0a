from .conversations.alignment import Alignment, Pieces, Word, align
from .conversations.codes import Conversation, Header, read_header
from .conversations.tokenize import Encoder, plan_tokenization
from .conversations.windows import lm_dataset
from .manifest import Item, Needs, Report, check_manifest, read_manifest
from .recordings.segments import audio_dataset
from .recordings.teachers import phone_inventory
from .text import train_tokenizer
from .turns.parquet import Turn, read_turns, write_turns

__all__ = [
    "Alignment", "Conversation", "Encoder", "Header", "Item", "Needs", "Pieces", "Report", "Turn", "Word", "align",
    "audio_dataset", "check_manifest", "lm_dataset", "phone_inventory", "plan_tokenization", "read_header",
    "read_manifest", "read_turns", "train_tokenizer", "write_turns",
]  # fmt: skip
