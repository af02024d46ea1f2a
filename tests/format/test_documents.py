"""What documents say of where they lie."""

from __future__ import annotations

import pytest

from rewind_logger.errors import CorruptError
from rewind_logger.format import documents
from rewind_logger.format.documents import Trim


@pytest.mark.parametrize("run", ["p/a", "p/t", "t/t", "t/a"])
def test_a_record_of_removed_segments_moves_with_its_run_and_with_nothing_else(run: str) -> None:
    data = documents.encode_trim(Trim(folder=f"{run}/t/00000000-1f", cut=5))
    moved = documents.decode_trim(data, "q/b/t/00000000-1f/trimmed.json")
    assert moved == Trim(folder="q/b/t/00000000-1f", cut=5)
    with pytest.raises(CorruptError):
        documents.decode_trim(data, f"{run}/t/00000001-2e/trimmed.json")
