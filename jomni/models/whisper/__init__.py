"""Whisper's log-mel features and speech encoder, without its text decoder."""

from jomni.models.whisper.config import WHISPER, WhisperConfig
from jomni.models.whisper.encoder import WhisperEncoder, embed_audio
from jomni.models.whisper.mel import log_mel, windows

__all__ = ["WHISPER", "WhisperConfig", "WhisperEncoder", "embed_audio", "log_mel", "windows"]
