"""Do ranks that meet each other while they evaluate stay in step, and does the view gather what there is, once?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import helpers
from tests.distributed import collectives
from tests.distributed.launch import run_ranks


@pytest.mark.distributed
@pytest.mark.timeout(200)
def test_ranks_with_different_numbers_of_batches_stay_in_step(tmp_path: Path) -> None:
    run_ranks(collectives.run, tmp_path, world=2)
    ranks = [torch.load(tmp_path / f"collectives-{rank}.pt", weights_only=False) for rank in range(2)]
    samples = [row["features"][0].item() for row in helpers.feature_rows(9).rows]
    for found in ranks:
        assert found["loss"] == ranks[0]["loss"]
        assert [value for batch in found["seen"] for value in batch] == samples, "each once, in order"
        assert found["counts"] == [[2, 2], [2, 2], [1]]
        assert found["walked"] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
        assert found["uneven"] == [0.0, 1.0, 1.0]
        assert found["scalars"] == [0, 1]
        assert found["sum"] == [2.0, 1.0]
        assert found["mean"] == 0.5
        assert found["objects"] == ["of 0", "of 1"]
    assert [found["padded"] for found in ranks] == [[7.0, 1.0], [1.0, 1.0]]
    assert [found["share"] for found in ranks] == [["a", "b"], ["c", "c"]]
