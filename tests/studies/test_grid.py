"""From a study to its cells and requests, against what one counts by hand."""

from collections import Counter
from pathlib import Path

import pytest

from adapter_stilts.jobs.request import Request
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.studies.grid import Cell, expand, request_of
from adapter_stilts.studies.reading import find_study, read_study
from adapter_stilts.study_schema import Study


def study_of(folder: Path, text: str) -> Study:
    path = folder / "study.yaml"
    path.write_text(text)
    return read_study(path)


# A grid asks a backbone nothing.
BACKBONE = Backbone("embedded", None, "0" * 64, Path("backbone"), Path("note"))


def request(study: Study, cell: Cell) -> Request:
    return request_of(study, cell, BACKBONE, "float32")


GRID = """\
targets: [udpos, wikiann]
intermediates: [ud_deprel, pmb_semtag, wikiann]
methods: [bottleneck, full]
compositions: [none, stack, fuse, continue]
controls: [none, shuffled]
seeds: [0, 1]
"""


def test_cells_of_a_grid(tmp_path: Path) -> None:
    """udpos has three intermediates, wikiann two (itself is none of its own); full has no stack and no fuse."""
    cells = list(expand(study_of(tmp_path, GRID)))
    assert len(cells) == len(set(cells))
    counts = Counter((cell.target, cell.method, cell.composition) for cell in cells)
    assert counts == {
        ("udpos", "bottleneck", "none"): 2,
        ("udpos", "bottleneck", "stack"): 3 * 2 * 2,
        ("udpos", "bottleneck", "fuse"): 1 * 2 * 2,
        ("udpos", "bottleneck", "continue"): 3 * 2 * 2,
        ("udpos", "full", "none"): 2,
        ("udpos", "full", "continue"): 3 * 2 * 2,
        ("wikiann", "bottleneck", "none"): 2,
        ("wikiann", "bottleneck", "stack"): 2 * 2 * 2,
        ("wikiann", "bottleneck", "fuse"): 1 * 2 * 2,
        ("wikiann", "bottleneck", "continue"): 2 * 2 * 2,
        ("wikiann", "full", "none"): 2,
        ("wikiann", "full", "continue"): 2 * 2 * 2,
    }
    fused = [cell.over for cell in cells if cell.composition == "fuse"]
    assert set(fused) == {("ud_deprel", "pmb_semtag", "wikiann"), ("ud_deprel", "pmb_semtag")}
    shuffled = next(cell for cell in cells if cell.control)
    assert shuffled.label == "udpos bottleneck stack over ud_deprel (shuffled), seed 0"


def test_groups_layers_and_exclusions(tmp_path: Path) -> None:
    text = f"""{GRID}layers: [all, 6-11]
groups:
  one: [ud_deprel, pmb_semtag]
  two: [pmb_semtag, wikiann]
exclude:
  - {{control: shuffled, composition: [fuse, continue]}}
  - {{method: bottleneck, composition: continue, intermediate: [ud_deprel, wikiann], seed: 1}}
  - {{target: wikiann, layers: 6-11}}
"""
    cells = list(expand(study_of(tmp_path, text)))
    counts = Counter((cell.target, cell.method, cell.composition, cell.layers) for cell in cells)
    assert counts == {
        ("udpos", "bottleneck", "none", "all"): 2,
        ("udpos", "bottleneck", "stack", "all"): 12,
        ("udpos", "bottleneck", "fuse", "all"): 4,
        ("udpos", "bottleneck", "continue", "all"): 3 + 1,
        ("udpos", "bottleneck", "none", "6-11"): 2,
        ("udpos", "bottleneck", "stack", "6-11"): 12,
        ("udpos", "bottleneck", "fuse", "6-11"): 4,
        ("udpos", "bottleneck", "continue", "6-11"): 3 + 1,
        ("udpos", "full", "none", "all"): 2,
        ("udpos", "full", "continue", "all"): 6,
        ("wikiann", "bottleneck", "none", "all"): 2,
        ("wikiann", "bottleneck", "stack", "all"): 8,
        # The second group has one intermediate left under wikiann: nothing to fuse.
        ("wikiann", "bottleneck", "fuse", "all"): 2,
        ("wikiann", "bottleneck", "continue", "all"): 2 + 1,
        ("wikiann", "full", "none", "all"): 2,
        ("wikiann", "full", "continue", "all"): 4,
    }
    assert {cell.group for cell in cells if cell.composition == "fuse"} == {"one", "two"}


def test_requests_of_a_cell(tmp_path: Path) -> None:
    """Amounts, seeds and settings go where they belong; a setting that decides nothing is left out."""
    text = f"""{GRID}layers: [6-11]
limit: 600
match_tokens: 5000
development_examples: 50
intermediate_seeds: 3
overrides:
  - {{set: {{epochs: 4, reduction: 16}}}}
  - {{method: full, set: {{learning_rate: 1e-5}}}}
  - {{target: wikiann, set: {{epochs: 7}}}}
  - {{intermediate: pmb_semtag, set: {{clip: 0.5}}}}
  - {{composition: fuse, set: {{fusion: full, fusion_null: false}}}}
"""
    study = study_of(tmp_path, text)
    cells = list(expand(study))
    fuse = next(cell for cell in cells if (cell.target, cell.composition, cell.seed) == ("wikiann", "fuse", 1))
    target = request(study, fuse)
    shared = {"layers": "6-11", "reduction": "16"}
    assert target.settings == {**shared, "epochs": "7", "fusion": "full", "fusion_null": "false"}
    assert (target.limit, target.match_tokens, target.seed, target.compose) == (600, None, 1, "fuse")
    deprel, semtag = target.over
    assert isinstance(deprel, Request)
    assert isinstance(semtag, Request)
    assert deprel.settings == {**shared, "epochs": "4"}
    assert semtag.settings == {**shared, "epochs": "4", "clip": "0.5"}
    assert [
        (intermediate.limit, intermediate.match_tokens, intermediate.seed, intermediate.over)
        for intermediate in (deprel, semtag)
    ] == [(None, 5000, 3, ())] * 2
    full = next(cell for cell in cells if (cell.method, cell.composition) == ("full", "none"))
    assert request(study, full).settings == {"epochs": "4", "learning_rate": "1e-05"}
    assert [each.development_limit for each in (target, deprel, semtag, request(study, full))] == [50] * 4


def test_intermediates_have_the_seed_of_their_cell_unless_one_is_fixed(tmp_path: Path) -> None:
    study = study_of(tmp_path, GRID)
    seeds = {(cell.seed, below.seed) for cell in expand(study) for below in request(study, cell).over}
    assert seeds == {(0, 0), (1, 1)}


@pytest.mark.parametrize(
    ("name", "cells"), [("quick", 7), ("quickstart", 7), ("quickstart_hub", 7), ("syntax_vs_semantics", 189)]
)
def test_size_of_the_shipped_studies(name: str, cells: int) -> None:
    """syntax_vs_semantics, by hand, for each of three seeds: udpos 1 + 8 stacked + 8 continued + 2 fused + 1 random + 4
    shuffled, full 1 + 8; wikiann one fewer of stack, continue and full continue: 63 together."""
    assert len(list(expand(find_study(name)))) == cells
    assert 3 * ((1 + 8 + 8 + 2 + 1 + 4 + 1 + 8) + (1 + 7 + 7 + 2 + 1 + 4 + 1 + 7)) == 189
