"""Attributes that tasks and pipelines do not have."""

from __future__ import annotations

import traceback

import pytest

from flowkit_core import DAG, Pipeline, Task


class Etl(Pipeline):
    pass


def shown(thing, attribute):
    """Return the last line of the traceback, to which Python may append a suggestion."""
    with pytest.raises(AttributeError) as caught:
        getattr(thing, attribute)
    assert caught.value.name == attribute
    return traceback.format_exception(caught.value)[-1].strip()


@pytest.mark.parametrize(
    ("attribute", "ending"),
    [
        ("retires", "'retires' (did you mean 'retries'?)"),
        ("with_option", "'with_option' (did you mean 'with_options'?)"),
        ("upstreams", "'upstreams' (did you mean 'upstream'?)"),
        ("apply", "'apply'"),
        ("origin", "'origin'"),
        ("_orign", "'_orign'"),
        ("pauses", "'pauses'"),
    ],
)
def test_unknown_attribute_of_task_suggests_public_names_only(attribute, ending):
    assert shown(Task(int, name="load"), attribute).endswith(f"task 'load' has no attribute {ending}")


@pytest.mark.parametrize("make", [DAG, Etl], ids=["DAG", "subclass of Pipeline"])
@pytest.mark.parametrize(
    ("attribute", "ending"),
    [
        ("visualise", "'visualise' (did you mean 'visualize'?)"),
        ("grap", "'grap' (did you mean 'graph'?)"),
        ("exampl", "'exampl'"),
        ("surroundings", "'surroundings'"),
        ("_blok", "'_blok'"),
    ],
)
def test_unknown_attribute_of_pipeline_suggests_public_names_only(make, attribute, ending):
    pipeline = make("etl")
    assert shown(pipeline, attribute).endswith(f"{make.__name__} 'etl' has no attribute {ending}")
