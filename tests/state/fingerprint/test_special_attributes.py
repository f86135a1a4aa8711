"""Classes that define the content of their instances, and objects that contain a function."""

from __future__ import annotations

import inspect

import pytest

from flowkit_state import TaskCache, UnsupportedValueError
from flowkit_state.fingerprint import changes, components, initial_components, input_components

CLASS = """
class C:
    def __init__(self, url): self.url, self.connection = url, iter([])
    def __flowkit_fingerprint__(self): return self.url
    def m(self): return 1
A = C("a")
def f(): return A
"""


@pytest.mark.parametrize("fingerprint", [components, initial_components])
def test_constant_is_compared_by_what_its_class_defines(load, fingerprint):
    def difference(old, new):
        return changes(fingerprint(load(CLASS).f), fingerprint(load(CLASS.replace(old, new)).f))

    assert difference('"a"', '"a"') == []
    assert difference("iter([])", "iter([1])") == ["function etl.C.__init__ has changed"]
    assert difference('"a"', '"b"') == ["constant etl.A has changed"]
    assert difference("return 1", "return 2") == ["function etl.C.m has changed"]


class Handle:
    def __init__(self, content):
        self.content = content

    def __flowkit_fingerprint__(self):
        if self.content is None:
            raise ValueError("no content")
        return self.content


def inputs(value):
    signature = inspect.signature(lambda x: x)
    return input_components(signature, {"x": value})


def test_input_is_compared_by_what_its_class_defines():
    assert inputs([Handle(("a", 1))]) == inputs([Handle(("a", 1))])
    assert changes(inputs(Handle("a")), inputs(Handle("b"))) == ["input 'x' has changed"]
    assert changes(inputs(Handle("a")), inputs("a")) != []


def test_opaque_content_is_refused_with_its_place():
    with pytest.raises(UnsupportedValueError) as caught:
        inputs({"a": Handle([object()])})
    assert caught.value.path == "argument \"x\"['a'].__flowkit_fingerprint__()[0]"


def test_method_that_raises_makes_the_value_opaque():
    with pytest.raises(UnsupportedValueError, match=r"whose __flowkit_fingerprint__\(\) failed \(no content\)"):
        inputs(Handle(None))


def test_content_that_contains_the_object_is_compared():
    handle = Handle(None)
    handle.content = (handle, 1)
    assert inputs(handle) == inputs(handle)


def test_call_with_such_an_argument_is_cached():
    calls = []

    @TaskCache(key=lambda handle: (handle.content, len("x")))
    def by_key(handle):
        return handle.content

    @TaskCache()
    def direct(handle):
        calls.append(handle)
        return handle.content

    assert [direct(Handle("a")), direct(Handle("a")), direct(Handle("b"))] == ["a", "a", "b"]
    assert len(calls) == 2


def test_object_with_a_function_inside_is_compared_by_that(load):
    source = """
        class Wrapped:
            def __init__(self, function): self.function = function
            @property
            def __flowkit_wrapped__(self): return self.function
        @Wrapped
        def f(x): return x
    """
    old, new = (components(load(text).f) for text in (source, source.replace("return x", "return -x")))
    assert changes(old, new) == ["function etl.f has changed"]
    assert sorted(old) == ["fingerprint format", "function etl.f"]
