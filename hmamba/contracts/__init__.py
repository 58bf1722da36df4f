"""Typed documents with a schema version that steps exchange with each other and with readers.

Every JSON file that steps exchange or publish is written and read through one of these models.
:mod:`hmamba.contracts.document` describes how they are checked.
"""

from hmamba.contracts.manifest import Manifest

__all__ = ["Manifest"]
