"""The exceptions that the core raises; each message says what to do next."""

from __future__ import annotations


class SamLoraError(Exception):
    """Base of every error that a user can cause and mend."""


class InputError(SamLoraError, ValueError):
    """An image, a label image, a prompt or a setting cannot be used as it is."""


class ChannelError(InputError):
    """An image has channels that are no colours, and none of them is chosen."""


class CheckpointError(SamLoraError):
    """A model checkpoint is missing, damaged or of an unknown kind."""


class AdapterError(SamLoraError):
    """An adapter file is damaged, or does not belong to the loaded base model."""


class TrainingError(SamLoraError):
    """Fine-tuning cannot start or go on."""
