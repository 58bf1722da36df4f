"""Check a stored model version without loading it."""

from __future__ import annotations

from dataclasses import fields
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.errors import InputError
from hmamba.models.files import Provenance
from hmamba.storage.layout import ITEMS, Layout
from hmamba.storage.local import read_json


def verified(layout: Layout, version: str) -> Provenance:
    """The inputs of a version's training, if its files are whole.

    Raises:
        InputError: the version does not exist, or a file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    folder = layout.storage.local_path(layout.model(version))
    cure = "Restore it, or train again with --full-retrain."
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist. {cure}")
    description = read_json(folder / "config.json")
    try:
        with safe_open(folder / "model.safetensors", "numpy"):
            pq.read_metadata(folder / ITEMS)
        inputs = {field.name: description[field.name] for field in fields(Provenance) if field.name in description}
        return Provenance(**{**inputs, "day": date.fromisoformat(description["day"])})
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, pa.ArrowException) as error:
        raise InputError(f"{folder}: damaged ({error}). {cure}") from error
