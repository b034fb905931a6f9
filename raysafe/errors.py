"""Errors that a user can act on; the command line prints one as a single sentence and exits with its code.

`raised_at` tells where any other error was raised.
"""


class RaySafeError(Exception):
    """Something the user can mend: the message names what was found, where, and the remedy."""

    exit_code = 2


class ConfigError(RaySafeError):
    """A setting that is unknown, of the wrong type, out of bounds, or impossible beside another."""


class DataError(RaySafeError):
    """Rows or files that can't be used; the message names file, line and reason."""


class ModelError(RaySafeError):
    """A model, tokenizer or chat template that can't be used."""


class ResourceError(RaySafeError):
    """The machine or cluster can't offer what the job asks for."""


class StorageError(RaySafeError):
    """A run directory, disk or store that can't be read or written."""


class TrainingError(RaySafeError):
    """Training had to stop: a loss that is not finite, workers that died too often. The last checkpoint is kept."""


class NotApproved(RaySafeError):
    """A model without an approved safety case was asked to do something that needs one."""


class Interrupted(RaySafeError):
    """Ctrl-C: the run saved a checkpoint and can be resumed."""

    exit_code = 130


def raised_at(error: BaseException) -> str:
    """file:line that raised the error: what is written down in place of its message, which may quote a prompt."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "an unknown place"
