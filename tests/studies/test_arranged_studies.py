"""Studies whose intermediates and compositions are more than names: several tasks together, translated data, masked
language modelling mixed in, settings of their own."""

from pathlib import Path

import pytest
from support.studies import make_study_workspace, plan_of, write_study
from support.training import GERMAN, TEXT_HEAD, Workspace, draw_sentences, english_task, write_conllu, write_task

from adapter_stilts.analysis.frame import load_study
from adapter_stilts.errors import UsageError
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.report.content import make_report
from adapter_stilts.studies import scheduler
from adapter_stilts.studies.grid import expand, request_of
from adapter_stilts.studies.plan import as_dot, runs_of, states, titles_of
from adapter_stilts.studies.reading import find_study, read_study
from adapter_stilts.studies.scheduler import run_plan
from adapter_stilts.tasks.catalog import find_task

TEXT = f"""\
{TEXT_HEAD}development_share: 0.5
recipes: {{head: {{default: {{epochs: 1, batch_examples: 2}}}}}}
data:
  format: tsv
  columns: {{text: words}}
  languages:
    en: {{train: train.tsv}}
    eo: {{train: train.tsv}}
"""
STUDY = """\
targets: [tags/tags.yaml]
intermediates:
  - other/other.yaml
  - third/third.yaml
  - {name: both, task: other/other.yaml+third/third.yaml, match_tokens: 40}
  - {name: with_mlm, task: third/third.yaml, set: {mlm_share: 0.5, mlm_task: text/text.yaml}}
  - {name: slow, task: other/other.yaml, set: {learning_rate: 0.001, rank: 4}}
  - {task: two/two.yaml, languages: [de]}
groups:
  pair: [other/other.yaml, with_mlm]
compositions:
  - none
  - {name: longer, composition: none, set: {epochs: 3}}
  - stack
  - fuse
  - {composition: fuse, set: {fusion: full}}
limit: 12
"""
GERMAN_TASK = (
    "{en: {train: en-train.conllu, validation: en-dev.conllu}, de: {train: de-train.conllu, validation: en-dev.conllu}}"
)

# A grid asks a backbone nothing.
BACKBONE = Backbone("embedded", None, "0" * 64, Path("backbone"), Path("note"))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(scheduler, "POLL", 0.05)
    workspace = make_study_workspace(tmp_path, monkeypatch)
    for split, count in (("en-train", 14), ("en-dev", 6), ("de-train", 14)):
        write_conllu(tmp_path / "two" / f"{split}.conllu", draw_sentences(GERMAN, count, count, shift=1))
    write_task(tmp_path / "two", "two", languages=GERMAN_TASK)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.tsv").write_text("words\n" + "the dog of the house\nund der Hund\n" * 6)
    (tmp_path / "text" / "text.yaml").write_text(TEXT)
    return workspace


LABELS = [
    "tags bottleneck none, seed 0",
    "tags bottleneck longer, seed 0",
    "tags bottleneck stack over other, seed 0",
    "tags bottleneck stack over third, seed 0",
    "tags bottleneck stack over both, seed 0",
    "tags bottleneck stack over with_mlm, seed 0",
    "tags bottleneck stack over slow, seed 0",
    "tags bottleneck stack over two (in de), seed 0",
    "tags bottleneck fuse over pair, seed 0",
    "tags bottleneck fuse (fusion=full) over pair, seed 0",
]


def test_cells_have_labels_and_trainings_of_their_own(workspace: Workspace) -> None:
    study = read_study(write_study(workspace, STUDY))
    cells = list(expand(study))
    assert [cell.label for cell in cells] == LABELS
    trainings = {cell.label.removesuffix(", seed 0"): request_of(study, cell, BACKBONE, "float32") for cell in cells}
    assert len(set(trainings.values())) == len(cells)
    assert trainings["tags bottleneck longer"].settings == {"epochs": "3"}
    (both,) = trainings["tags bottleneck stack over both"].over
    assert [task.name for task in both.tasks] == ["other", "third"]
    assert (both.limit, both.match_tokens, both.settings, both.languages) == (None, 40, {}, None)
    (mixed,) = trainings["tags bottleneck stack over with_mlm"].over
    assert dict(mixed.settings) == {"mlm_share": "0.5", "mlm_task": f"{workspace.folder}/text/text.yaml"}
    (slow,) = trainings["tags bottleneck stack over slow"].over
    # The rank of a LoRA decides nothing here.
    assert (slow.limit, slow.settings) == (12, {"learning_rate": "0.001"})
    (german,) = trainings["tags bottleneck stack over two (in de)"].over
    assert ([task.name for task in german.tasks], german.languages) == (["two"], ("de",))
    fused = trainings["tags bottleneck fuse (fusion=full) over pair"]
    assert (fused.compose, fused.settings) == ("fuse", {"fusion": "full"})
    assert fused.over == trainings["tags bottleneck fuse over pair"].over


def test_selectors_know_intermediates_and_compositions_by_their_names(workspace: Workspace) -> None:
    text = STUDY + (
        "exclude:\n"
        "  - {intermediate: [slow, 'two/two.yaml (in de)'], composition: stack}\n"
        "  - {composition: 'fuse (fusion=full)'}\n"
        "overrides:\n"
        "  - {intermediate: [with_mlm, third/third.yaml], set: {epochs: 1, mlm_share: 0.25}}\n"
        "  - {composition: longer, set: {epochs: 9, clip: 0.5}}\n"
        "  - {composition: fuse, set: {fusion_rank: 2}}\n"
    )
    text = text.replace("task: two/two.yaml,", f"task: {workspace.folder}/two/two.yaml,").replace(
        "'two/", f"'{workspace.folder}/two/"
    )
    study = read_study(write_study(workspace, text))
    cells = {cell.label: cell for cell in expand(study)}
    assert list(cells) == [label for label in LABELS if not any(part in label for part in ("slow", "in de", "=full"))]
    trainings = {label: request_of(study, cell, BACKBONE, "float32") for label, cell in cells.items()}
    # What an entry sets itself goes before an override.
    assert dict(trainings["tags bottleneck longer, seed 0"].settings) == {"epochs": "3", "clip": "0.5"}
    (mixed,) = trainings["tags bottleneck stack over with_mlm, seed 0"].over
    assert {**dict(mixed.settings), "mlm_task": ""} == {"epochs": "1", "mlm_share": "0.5", "mlm_task": ""}
    (plain,) = trainings["tags bottleneck stack over third, seed 0"].over
    assert dict(plain.settings) == {"epochs": "1", "mlm_share": "0.25"}
    assert dict(trainings["tags bottleneck fuse over pair, seed 0"].settings) == {"fusion_rank": "2"}
    text = text.replace("  - {composition: 'fuse (fusion=full)'}\n", "  - {composition: fuse}\n").replace(
        "  - {composition: fuse, set: {fusion_rank: 2}}\n", ""
    )
    assert not any("fuse" in cell.label for cell in expand(read_study(write_study(workspace, text))))


@pytest.mark.slow
def test_runs_are_planned_as_train_names_them_and_told_apart_in_the_report(workspace: Workspace) -> None:
    plan = plan_of(workspace, STUDY)
    titles = titles_of(plan)
    below = {titles[name]: name for name, node in plan.nodes.items() if not node.cells}
    assert sorted(below) == ["both", "other", "slow", "text", "third", "two (in de)", "with_mlm"]
    assert len(plan.nodes) == len(LABELS) + len(below)
    head = plan.nodes[below["text"]]
    assert (head.job.method, head.job.languages) == ("head", ("en", "eo"))
    assert plan.nodes[below["with_mlm"]].over == (head.name,)
    assert plan.nodes[below["with_mlm"]].job.intermediates == ()
    dot = as_dot(plan)
    assert f'"{head.name}" -> "{below["with_mlm"]}";' in dot
    assert 'label="two (in de)\\nbottleneck none\\nseed 0"' in dot
    assert 'label="tags\\nbottleneck fuse (fusion=full)\\nseed 0"' in dot

    result = run_plan(plan, 0)
    assert (result.failed, sorted(result.done)) == ({}, sorted(plan.nodes))
    assert set(states(plan).values()) == {"done"}
    # The same requests by `train` find these runs; a head is trained first where the checkpoint has none.
    settings = {"mlm_share": 0.5, "mlm_task": str(workspace.folder / "text" / "text.yaml")}
    others = [
        workspace.train(str(workspace.folder / "third" / "third.yaml"), settings=settings, limit=12),
        workspace.train(str(workspace.folder / "two" / "two.yaml"), languages="de", limit=12),
    ]
    assert [run.name for run in others] == [below["with_mlm"], below["two (in de)"]]
    assert set(workspace.store.names()) == set(plan.nodes)
    assert [run.record.variant for run in others] == [f"mlm_task={settings['mlm_task']}, 0.5 MLM", "in de"]

    report = make_report(plan.study, list(runs_of(plan)), plan.store, resamples=0)
    (table,) = report.tables
    variant = f"third (mlm_task={settings['mlm_task']}, 0.5 MLM)"
    assert sorted(row.label for row in table.rows) == [
        f"bottleneck fuse over other + {variant} (full fusion)",
        f"bottleneck fuse over other + {variant} (light fusion)",
        "bottleneck none",
        "bottleneck none (epochs=3)",
        "bottleneck stack over other",
        "bottleneck stack over other (learning_rate=0.001)",
        "bottleneck stack over other+third (40 tokens)",
        "bottleneck stack over third",
        f"bottleneck stack over {variant}",
        "bottleneck stack over two (in de)",
    ]
    assert sorted(intermediate.task for intermediate in report.below) == [
        "both",
        "other",
        "slow",
        "third",
        "two (in de)",
        "with_mlm",
    ]
    frame = load_study(
        plan.study.path, runs=workspace.store.folder, backbone=str(workspace.folder / "tiny"), device="cpu"
    )
    assert set(frame[frame.composition == "stack"].intermediate) == set(below) - {"text"}


def test_a_composition_that_is_called_as_it_is_keeps_what_it_sets(workspace: Workspace) -> None:
    head = "targets: [tags/tags.yaml]\nintermediates: [other/other.yaml, third/third.yaml]\ncompositions: "
    plans = [
        plan_of(workspace, f"{head}[{{composition: fuse, {name}set: {{fusion: full}}}}]\n")
        for name in ("name: fuse, ", "name: whole, ", "")
    ]
    assert len({frozenset(plan.nodes) for plan in plans}) == 1
    (target,) = [node for node in plans[0].nodes.values() if node.cells]
    assert (target.job.recipe.fusion, target.cells[0].how) == ("full", "fuse")
    path = write_study(workspace, f"{head}[{{composition: stack, name: stack, set: {{fusion: full}}}}]\n")
    with pytest.raises(UsageError, match=r":3: compositions\[0\]: found settings that no run of the study uses"):
        read_study(path)


def test_development_examples_of_a_study_are_those_of_a_head_too(workspace: Workspace) -> None:
    """As `train --development-limit` has it; a run that mixes nothing in is called as it was."""
    folder = workspace.folder
    (folder / "text" / "text.yaml").write_text(
        TEXT.replace("{train: train.tsv}", "{train: train.tsv, validation: train.tsv}")
    )
    text = (
        "targets: [tags/tags.yaml]\nintermediates: [{task: third/third.yaml, set: {mlm_share: 0.5, mlm_task: "
        "text/text.yaml}}]\ncompositions: [none, stack]\ndevelopment_examples: 4\n"
    )
    plan = plan_of(workspace, text)
    jobs = [node.job for node in plan.nodes.values()]
    assert [job.recipe.development_examples for job in jobs] == [4] * 4
    assert sorted(job.title for job in jobs) == ["tags", "tags", "text", "third"]
    settings = {"mlm_share": "0.5", "mlm_task": f"{folder}/text/text.yaml"}
    third, tags = (find_task(folder / name / f"{name}.yaml") for name in ("third", "tags"))
    mixed = workspace.job(third, settings=settings, development_limit=4)
    assert {mixed.name, *(below.name for below in mixed.below)} < set(plan.nodes)
    assert workspace.job(tags, settings={"development_examples": "4"}).name in plan.nodes
    # What an override sets goes before.
    more = plan_of(workspace, text + "overrides: [{target: tags/tags.yaml, set: {development_examples: 3}}]\n")
    assert sorted(node.job.recipe.development_examples or 0 for node in more.nodes.values()) == [3, 3, 4, 4]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("[two/two.yaml, {task: two/two.yaml, languages: [en]}]", "[1]: found 'TWO' twice, accepted each value once"),
        ("[two/two.yaml, {task: two/two.yaml, languages: [en, en]}]", "[1]: found 'TWO' twice"),
        (
            "[{task: two/two.yaml, languages: [en, de]}, {task: two/two.yaml, languages: [de, en, de]}]",
            "[1]: found 'TWO (in en+de)' twice",
        ),
        (
            "[other/other.yaml, copy/other.yaml]",
            "[1]: found copy/other.yaml, called other as other/other.yaml is, accepted a `name` for one of them",
        ),
    ],
)
def test_two_entries_for_one_intermediate_are_refused(workspace: Workspace, entries: str, message: str) -> None:
    english_task(workspace.folder / "copy", "other", shift=2)
    path = write_study(workspace, f"targets: [tags/tags.yaml]\nintermediates: {entries}\n")
    with pytest.raises(UsageError) as refused:
        read_study(path)
    message = message.replace("TWO", f"{workspace.folder}/two/two.yaml")
    message = message.replace("copy/", f"{workspace.folder}/copy/").replace("other/o", f"{workspace.folder}/other/o")
    assert str(refused.value).startswith(f"{path}:2: intermediates{message}")


def test_a_name_tells_intermediates_of_one_task_s_name_apart(workspace: Workspace) -> None:
    english_task(workspace.folder / "copy", "other", shift=2)
    text = "targets: [tags/tags.yaml]\nintermediates: [other/other.yaml, {task: copy/other.yaml, name: again}]\n"
    plan = plan_of(workspace, text)
    assert sorted(titles_of(plan)[name] for name, node in plan.nodes.items() if not node.cells) == ["again", "other"]


def test_a_backbone_with_a_head_needs_no_run_for_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapter_stilts.model.backbone.has_masked_lm_head", lambda backbone: True)
    plan = plan_of(workspace, STUDY)
    assert len(plan.nodes) == len(LABELS) + 6
    mixed = next(node for node in plan.nodes.values() if node.job.mixed_in is not None)
    assert (mixed.over, mixed.job.identity["masked_lm"]["head"]) == ((), "checkpoint")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("languages: [de]", "languages: [de, xx]", ":8: intermediates[5].languages[1]: found 'xx', accepted of two: "),
        (
            "languages: [de]",
            "langages: [de]",
            ":8: intermediates[5].langages: found an unknown key (did you mean ",
        ),
        ("name: slow, task", "task", ":7: intermediates[4].set.rang: found an unknown key (did you mean 'rank'?)"),
        (
            "slow, task: other/other.yaml",
            "slow, task: oter",
            ":7: intermediates[4].task: task 'oter': found no such task",
        ),
        ("name: slow", "name: both", ":7: intermediates[4]: found 'both' twice, accepted each value once"),
        (
            "learning_rate: 0.001, ",
            "",
            ":7: intermediates[4]: found settings that no run of the study uses, accepted ",
        ),
        ("fusion: full", "reduction: -1", ":16: compositions[4].set.reduction: found -1, accepted greater than"),
        ("fusion: full", "merge: svd", ":16: compositions[4]: found settings that no run of the study uses"),
        (
            "composition: fuse,",
            "composition: fusion,",
            ":16: compositions[4].composition: found 'fusion' (did you mean 'fuse'?), ",
        ),
        (
            "other.yaml, with_mlm",
            "other.yaml, with_ml",
            ":10: groups.pair[1]: found 'with_ml' (did you mean ",
        ),
    ],
)
def test_what_is_wrong_in_an_entry_is_said_with_its_line(
    workspace: Workspace, old: str, new: str, message: str
) -> None:
    text = STUDY.replace(old, new)
    if "rang" in message:
        text = STUDY.replace("rank: 4", "rang: 4")
    path = write_study(workspace, text)
    with pytest.raises(UsageError) as refused:
        read_study(path)
    assert any(line.startswith(f"{path}{message}") for line in str(refused.value).split("\n")), str(refused.value)


def test_the_grid_of_compositions_has_every_row_once() -> None:
    """By hand: bottleneck none, 6 stacked, light and full fusion, 3 continued, merge, 2 controls; full 1 + 6; lora,
    dora and ia3 2 each; two targets, two seeds."""
    study = find_study("compositions")
    cells = list(expand(study))
    assert len(cells) == len({cell.label for cell in cells}) == ((1 + 6 + 2 + 3 + 1 + 2) + 7 + 3 * 2) * 2 * 2
    trainings = {cell.label: request_of(study, cell, BACKBONE, "float32") for cell in cells}
    lora = trainings["udpos lora stack over ud_deprel, seed 1"]
    assert (dict(lora.settings), lora.development_limit) == ({"batch_tokens": "2048", "epochs": "3"}, 500)
    assert (dict(lora.over[0].settings), lora.over[0].development_limit) == ({}, 500)
    full = trainings["wikiann full continue over three_tasks, seed 0"]
    assert dict(full.settings)["learning_rate"] == "0.00015"
    assert ([task.name for task in full.over[0].tasks], full.over[0].match_tokens) == (
        ["ud_deprel", "pmb_semtag", "snli_devtest"],
        16666,
    )
    small = find_study("compositions_small")
    assert [cell.label for cell in expand(small)] == [cell.label for cell in cells if cell.seed == 0]
