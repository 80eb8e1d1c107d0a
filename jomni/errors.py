"""Errors that a user can act on. The command line prints their message alone and exits with code 2."""


class JomniError(Exception):
    """What was wrong, with which value or file, and what to do about it."""


class ConfigError(JomniError):
    """A configuration with an unknown, unsupported or contradictory option."""


class WeightsError(JomniError):
    """A weight file that is missing, damaged, unsafe, or does not fit its configuration."""


class AudioError(JomniError):
    """Audio or codes that cannot be read or make no sense to the codec."""


class OutputError(JomniError):
    """An output that cannot be written, or that exists and was not to be overwritten."""


class DataError(JomniError):
    """A data set, or a file of it, that is missing, damaged or not what its user needs."""


class PromptError(JomniError):
    """A prompt that is empty, does not fit the context, or that the model's chat template refuses."""
