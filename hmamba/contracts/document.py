"""Documents: JSON files with a schema version, validated when they are read.

A step writes a document; another step or a reader of the published table reads it. Each kind is one model with one
``schema_version``, which is raised by every change that readers of the previous version would misread. Unknown keys
are ignored, so keys can be added within a version.

A file ends with ``checksum``, the digest of all other keys, which is verified when the file is read. A file without it
is accepted: one that was edited on purpose is read again once that key is removed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, PlainSerializer, ValidationError

from hmamba.errors import InputError
from hmamba.storage.base import Storage, write_text
from hmamba.storage.local import LOCAL, digest, read_json

Moment = Annotated[AwareDatetime, PlainSerializer(lambda moment: moment.isoformat(), return_type=str)]
"""A point in time with its offset, in ISO 8601."""

_SCHEMA_VERSION, _CHECKSUM = "schema_version", "checksum"


class Part(BaseModel):
    """A piece of a document. Immutable; unknown keys are ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", serialize_by_alias=True, validate_by_name=True, validate_by_alias=True
    )


class Document(Part):
    """A JSON file that a step writes.

    Attributes:
        schema_version: version of the keys and their meaning.
        CURE: how to fix a file that cannot be read; the last sentence of the error message.
    """

    CURE: ClassVar[str] = "Restore it, or run the step that writes it again."

    schema_version: int = 1

    @classmethod
    def read(cls, place: Path, storage: Storage = LOCAL) -> Self:
        """Read and validate a file.

        Args:
            place: the file.
            storage: storage of the root that the file belongs to; needed unless the file is local for certain, such as
                one inside a folder that :meth:`Storage.local_path` returned.

        Raises:
            InputError: the file is missing, is not JSON, has another schema version, a key is missing or wrong, or
                its checksum does not agree. The message names the file and the cure.
        """
        value = read_json(storage.local_path(place), cls.CURE)
        recorded = value.pop(_CHECKSUM, None) if isinstance(value, dict) else None
        document = cls.parse(value, place)
        if recorded is not None and recorded != digest(value):
            raise InputError(
                f"{place} has been changed since it was written (its checksum does not agree). {cls.CURE} If the "
                f'change is meant, remove the key "{_CHECKSUM}" from it.'
            )
        return document

    @classmethod
    def read_if_exists(cls, place: Path, storage: Storage = LOCAL) -> Self | None:
        """As :meth:`read`; None if there is no such file."""
        return cls.read(place, storage) if storage.exists(place) else None

    @classmethod
    def parse(cls, value: object, where: Path | str) -> Self:
        """Validate a JSON value that was read from ``where``.

        Raises:
            InputError: as :meth:`read`.
        """
        expected = cls.model_fields[_SCHEMA_VERSION].default
        if not isinstance(value, dict):
            raise InputError(f"{where} is damaged: it is not a JSON object. {cls.CURE}")
        if value.get(_SCHEMA_VERSION) != expected:
            found = f"has schema_version {value[_SCHEMA_VERSION]!r}" if _SCHEMA_VERSION in value else "has none"
            raise InputError(
                f"{where} was written by another version of HMamba nightly: this one reads schema_version {expected}, "
                f"and the file {found}. {cls.CURE}"
            )
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise InputError(f"{where} is damaged: {first_problem(error)}. {cls.CURE}") from None

    def write(self, place: Path, storage: Storage = LOCAL) -> None:
        """Write the document as indented JSON, atomically.

        Args:
            place: the file; an older one is replaced.
            storage: as for :meth:`read`; a file inside a folder that :meth:`Storage.write_folder` yields is local.
        """
        value = self.model_dump(mode="json")
        write_text(storage, place, json.dumps({**value, _CHECKSUM: digest(value)}, indent=2) + "\n")


def first_problem(error: ValidationError) -> str:
    """The first problem that pydantic found, in a few words."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "missing":
        return f"{key} is missing"
    return f"{key} = {problem['input']!r:.60}: {problem['msg']}"
