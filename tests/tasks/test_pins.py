"""Every repository that a shipped task names is on the Hub at its pin: `pytest -m network`, given a network."""

from __future__ import annotations

import pytest
from huggingface_hub import HfApi

from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import all_tasks
from adapter_stilts.tasks.data import load_split


def on_the_hub(task: Task) -> bool:
    """Whether the task's data are a repository's, and not of those that only a mirror has."""
    return task.data.dataset is not None and not task.data.dataset.startswith("offline/")


TASKS = [task for task in all_tasks() if on_the_hub(task)]


@pytest.mark.network
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_repositories_have_their_pinned_revision(task: Task) -> None:
    pins = {(task.data.dataset, task.data.revision)}
    for source in task.data.languages.values():
        if source.dataset is not None:
            pins.add((source.dataset, source.revision))
    for dataset, revision in pins:
        described = HfApi().dataset_info(str(dataset), revision=revision)
        assert described.sha is not None
        if revision is not None and len(revision) == 40:
            assert described.sha == revision


@pytest.mark.network
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_english_training_data_are_read_as_the_task_says(task: Task) -> None:
    loaded = load_split(task, task.train_language, "train", None)
    assert loaded.revision is not None
    assert all(len(column) == len(loaded.locations.rows) for column in loaded.columns.values())
