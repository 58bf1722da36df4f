"""Check a stored model version without loading it."""

from __future__ import annotations

from dataclasses import fields
from datetime import date

from hmamba.contracts.contents import Contents
from hmamba.errors import InputError
from hmamba.models.files import CURE, Provenance
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from hmamba.storage.run_layout import CONTENTS


def verified(layout: Layout, version: str) -> Provenance:
    """The inputs of a version's training, if its files are whole.

    Raises:
        InputError: the version does not exist, or a file is missing or damaged.
    """
    folder = layout.storage.local_path(layout.model(version))
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist. {CURE}")
    if not (folder / CONTENTS).is_file():
        raise InputError(f"{folder / CONTENTS} does not exist: {version} is not a whole model. {CURE}")
    Contents.read(folder / CONTENTS).verify(folder, CURE, (layout.model_metrics(version).name,))
    description = read_json(folder / "config.json", CURE)
    try:
        inputs = {field.name: description[field.name] for field in fields(Provenance) if field.name in description}
        return Provenance(**{**inputs, "day": date.fromisoformat(description["day"])})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: stored by another version of this program ({error}). {CURE}") from error
