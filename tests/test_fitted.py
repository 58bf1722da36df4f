"""Where a fitted model keeps its files."""

from __future__ import annotations

from hmamba.fitted import run_in


def test_a_working_folder_is_laid_out_as_a_run(tmp_path):
    run = run_in(tmp_path)
    assert run.sequences.is_relative_to(tmp_path)
    assert run.model.is_relative_to(tmp_path)
