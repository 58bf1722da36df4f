"""The errors a user can meet, each with the exit status a scheduler can act on.

A message names the place (file, row, column or setting) and ends with what to do about it. Anything that is not
an :class:`HMambaError` is a fault of this project and keeps its traceback.
"""

from __future__ import annotations


class HMambaError(Exception):
    """Something the user can mend. ``exit_code`` is what a job leaves with."""

    exit_code = 1


class ConfigError(HMambaError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 2


class InputError(HMambaError):
    """A file is not what it should be, or a name does not exist. Nothing has been changed."""

    exit_code = 2


class BusyError(HMambaError):
    """Something else is at work on the same files, or a resource has run out: another try may succeed."""

    exit_code = 1


class QualityError(HMambaError):
    """Data or candidates broke a rule. Running the step again cannot help: schedulers must not retry."""

    exit_code = 3
