"""Constants of types of the standard library are compared by content."""

from __future__ import annotations

import pytest

VALUES = {
    "a command line": ("argparse.Namespace(limit=@)", "10", "20"),
    "a command line in a command line": ("argparse.Namespace(db=argparse.Namespace(limit=@))", "1", "2"),
    "a command line in a table": ("{'a': [argparse.Namespace(limit=@)]}", "1", "2"),
    "a command line of a subclass": ("parser.parse_args(['--limit', '@'], namespace=Args())", "1", "2"),
    "an old command line": ("optparse.Values({'limit': @})", "1", "2"),
    "a configuration": ("config(configparser.ConfigParser(), '@')", "[a]\\nb = 1", "[a]\\nb = 2"),
    "a raw configuration": ("config(configparser.RawConfigParser(), '@')", "[a]\\nb = 1", "[a]\\nb = 2"),
    "a configuration of a subclass": ("config(Config(), '@')", "[a]\\nb = 1", "[a]\\nb = 2"),
    "the defaults of a configuration": ("config(configparser.ConfigParser(), '[DEFAULT]\\nb = @')", "1", "2"),
    "how a configuration is read": ("config(configparser.ConfigParser(interpolation=@), '')", "None", "Extended()"),
    "a converter": ("config(configparser.ConfigParser(converters={'list': @}), '')", "str.split", "list"),
    "a section": ("config(configparser.ConfigParser(), '[a]\\nb = @')['a']", "1", "2"),
    "a default in a section": ("config(configparser.ConfigParser(), '[DEFAULT]\\nb = @\\n[a]')['a']", "1", "2"),
    "what a section refers to": (
        "config(configparser.ConfigParser(interpolation=Extended()), '[a]\\nb = ${c:d}\\n[c]\\nd = @')['a']",
        "1",
        "2",
    ),
    "a template": ("string.Template('@')", "$a", "$b"),
    "a template of a subclass": ("Letter('@')", "%a", "%b"),
    "a request": ("urllib.request.Request('http://localhost', headers={'a': '@'})", "b", "c"),
    "a message": ("email.message_from_string('Subject: @')", "a", "b"),
    "a view": ("types.MappingProxyType({'a': @})", "1", "2"),
    "a chain": ("collections.ChainMap({}, {'a': @})", "1", "2"),
    "a chain of a subclass": ("Chain({'a': @})", "1", "2"),
    "a counter": ("collections.Counter('@')", "a", "b"),
    "a counter of a subclass": ("Count('@')", "a", "b"),
    "an order": ("collections.OrderedDict.fromkeys('@')", "ab", "ba"),
    "an order of a subclass": ("Ordered.fromkeys('@')", "ab", "ba"),
    "a factory of a subclass": ("Defaults(@)", "list", "dict"),
    "a queue of a subclass": ("Deque([1], @)", "1", "2"),
    "a dictionary": ("collections.UserDict(a=@)", "1", "2"),
    "a list": ("collections.UserList([@])", "1", "2"),
    "a string": ("collections.UserString('@')", "1", "2"),
    "a dictionary of a subclass": ("Dictionary(a=@)", "1", "2"),
    "a namespace": ("types.SimpleNamespace(a=@)", "1", "2"),
    "a namespace of a subclass": ("Space(a=@)", "1", "2"),
    "an encoder": ("json.JSONEncoder(indent=@)", "1", "2"),
    "a decoder": ("json.JSONDecoder(parse_float=@)", "float", "str"),
    "a record": ("struct.Struct('@')", "<I", "<H"),
    "how to count": ("decimal.Context(prec=@)", "3", "4"),
    "a network": ("ipaddress.ip_network('10.0.0.0/@')", "8", "16"),
}
MODULE = """
    import argparse, collections, configparser, decimal, email, ipaddress, json, optparse, string, struct
    import types, urllib.request
    class Args(argparse.Namespace): pass
    class Config(configparser.ConfigParser): pass
    class Letter(string.Template): delimiter = "%"
    class Chain(collections.ChainMap): pass
    class Count(collections.Counter): pass
    class Ordered(collections.OrderedDict): pass
    class Defaults(collections.defaultdict): pass
    class Deque(collections.deque): pass
    class Dictionary(collections.UserDict): pass
    class Space(types.SimpleNamespace): pass
    Extended = configparser.ExtendedInterpolation
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit")
    def config(parser, text):
        parser.read_string(text)
        return parser
    A = {value}
    def f(): return A
"""


@pytest.mark.parametrize("name", VALUES)
def test_constant_of_stdlib_type_is_compared_by_content(differences, name):
    expression, *values = VALUES[name]
    before, after = (MODULE.replace("{value}", expression.replace("@", value)) for value in values)
    assert differences(before, before) == []
    assert differences(before, after) == ["constant etl.A has changed"]


ARGS = "import argparse\nargs = argparse.Namespace(limit=@, verbose=0, db=argparse.Namespace(name='a', port=@))\n"


OPTIONS = {
    "an option": ("def f(): return args.limit", "constant etl.args.limit"),
    "an option of a command": ("def f(): return args.db.port", "constant etl.args.db.port"),
    "all options of a command": ("def f(): return args.db", "constant etl.args.db"),
    "all options": ("def f(): return vars(args)", "constant etl.args"),
    "an option in a closure": (
        "def make(a):\n    def f(): return a.limit\n    return f\nf = make(args)",
        "closure a.limit of etl.make.<locals>.f",
    ),
    "an option through a helper": ("def g(a): return a.limit\ndef f(): return g(args)", "constant etl.args"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_the_command_line_are_compared_one_by_one(differences, name):
    source, label = OPTIONS[name]
    before, after = (ARGS.replace("@", limit) + source for limit in "12")
    assert differences(before, before) == []
    assert differences(before, after) == [f"{label} has changed"]
