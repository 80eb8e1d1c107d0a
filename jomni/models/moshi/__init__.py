"""Moshi: the multistream language model of full-duplex dialogue."""

from jomni.models.moshi.conditioning import prepare_conditions
from jomni.models.moshi.config import MOSHI_7B, ConditionerConfig, FuserConfig, MoshiConfig
from jomni.models.moshi.model import LMOutput, MoshiLM

__all__ = ["MOSHI_7B", "ConditionerConfig", "FuserConfig", "LMOutput", "MoshiConfig", "MoshiLM", "prepare_conditions"]
