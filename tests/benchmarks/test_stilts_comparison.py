"""The cells of the comparison with full STILTs, in order."""

from benchmarks.cells import Cell, Intermediate
from benchmarks.stilts_comparison import cells


def test_cells_begin_with_the_targets_alone() -> None:
    below = (Intermediate("x"),)
    assert list(cells(["a", "b"], {"bottleneck": ["x"], "full": []}, [3])) == [
        Cell("a", "bottleneck", seed=3),
        Cell("a", "full", seed=3),
        Cell("b", "bottleneck", seed=3),
        Cell("b", "full", seed=3),
        Cell("a", "bottleneck", below, seed=3),
        Cell("b", "bottleneck", below, seed=3),
    ]
    assert list(cells(["a"], {"full": ["x"]}, [0])) == [Cell("a", "full", seed=0), Cell("a", "full", below, seed=0)]
