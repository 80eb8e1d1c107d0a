"""Errors that a user can correct. The command line prints only their message and exits with code 2."""


class JomniError(Exception):
    """Base class. The message says what is wrong, with which value or file, and what to do."""


class ConfigError(JomniError):
    """An option of a configuration is unknown, unsupported, or contradicts another."""


class WeightsError(JomniError):
    """A weight file is missing, damaged or unsafe, or does not fit its configuration."""


class AudioError(JomniError):
    """Audio or codes cannot be read, or do not fit the codec."""


class OutputError(JomniError):
    """An output cannot be written, or exists and must not be overwritten."""


class DataError(JomniError):
    """A data set or one of its files is missing or damaged, or does not meet the requirements."""


class PromptError(JomniError):
    """A prompt is empty, does not fit the context, or is rejected by the model's chat template."""
