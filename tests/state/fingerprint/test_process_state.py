"""A cached function that reads state of the process never returns the result that belongs to another state.

Each object is read in each spelling: the value that the function returns changes between two calls, so the second call
must not return the first result. Whether the state is a part of the key or the call is not cached does not matter here.
"""

from __future__ import annotations

import gc
import re
import sys
import warnings
from contextlib import nullcontext

import pytest

from flowkit_state import StateManager, TaskCache

OBJECTS = {  # the expression that makes the object, the expression that reads it, and the statement that changes it
    "ContextVar": ("contextvars.ContextVar('v', default=0)", "@.get()", "@.set(1)"),
    "Context": ("contextvars.copy_context()", "len([*@.items()])", "@.run(contextvars.ContextVar('w').set, 1)"),
    "local": ("make_local()", "@.value", "@.value = 1"),
    "local of a subclass": ("Local()", "@.value", "@.value = 1"),
    "Event": ("threading.Event()", "@.is_set()", "@.set()"),
    "Lock": ("threading.Lock()", "@.locked()", "@.acquire()"),
    "RLock": ("threading.RLock()", "'count=0' in repr(@)", "@.acquire()"),
    "Condition": ("threading.Condition()", "'count=0' in repr(@)", "@.acquire()"),
    "Semaphore": ("threading.Semaphore(2)", "@._value", "@.acquire()"),
    "BoundedSemaphore": ("threading.BoundedSemaphore(2)", "@._value", "@.acquire()"),
    "Barrier": ("threading.Barrier(2)", "@.broken", "@.abort()"),
    "Thread": ("threading.Thread(name='a')", "@.name", "@.name = 'b'"),
    "Timer": ("threading.Timer(1, print)", "@.name", "@.name = 'b'"),
    "Queue": ("queue.Queue()", "@.qsize()", "@.put(1)"),
    "LifoQueue": ("queue.LifoQueue()", "@.qsize()", "@.put(1)"),
    "PriorityQueue": ("queue.PriorityQueue()", "@.qsize()", "@.put(1)"),
    "SimpleQueue": ("queue.SimpleQueue()", "@.qsize()", "@.put(1)"),
    "asyncio.Queue": ("asyncio.Queue()", "@.qsize()", "@.put_nowait(1)"),
    "asyncio.Event": ("asyncio.Event()", "@.is_set()", "@.set()"),
    "asyncio.Semaphore": ("asyncio.Semaphore(1)", "@._value", "@._value = 0"),
    "asyncio.Lock": ("asyncio.Lock()", "@.locked()", "@._locked = True"),
    "Future": ("concurrent.futures.Future()", "@.done()", "@.set_result(1)"),
    "ThreadPoolExecutor": ("concurrent.futures.ThreadPoolExecutor(1)", "@._shutdown", "@.shutdown()"),
    "Random": ("random.Random(1)", "@.random()", "@.random()"),
    "Random of a subclass": ("Dice(1)", "@.random()", "@.random()"),
    "iterator": ("iter([1, 2, 3])", "next(@)", "next(@)"),
    "tuple iterator": ("iter((1, 2, 3))", "next(@)", "next(@)"),
    "range iterator": ("iter(range(9))", "next(@)", "next(@)"),
    "generator": ("(x for x in range(9))", "next(@)", "next(@)"),
    "map": ("map(abs, [1, 2, 3])", "next(@)", "next(@)"),
    "filter": ("filter(None, [1, 2, 3])", "next(@)", "next(@)"),
    "zip": ("zip([1, 2, 3])", "next(@)[0]", "next(@)"),
    "enumerate": ("enumerate([1, 2, 3])", "next(@)[0]", "next(@)"),
    "reversed": ("reversed([1, 2, 3])", "next(@)", "next(@)"),
    "count": ("itertools.count()", "next(@)", "next(@)"),
    "cycle": ("itertools.cycle('ab')", "next(@)", ""),
    "chain": ("itertools.chain([1, 2, 3])", "next(@)", "next(@)"),
    "islice": ("itertools.islice([1, 2, 3], 3)", "next(@)", "next(@)"),
    "accumulate": ("itertools.accumulate([1, 2, 3])", "next(@)", "next(@)"),
    "csv.reader": ("csv.reader(['a', 'b', 'c'])", "next(@)[0]", "next(@)"),
    "StringIO": ("io.StringIO('a')", "@.getvalue()", "@.write('b')"),
    "BytesIO": ("io.BytesIO(b'a')", "@.getvalue()", "@.write(b'b')"),
    "text file": ("open(__file__, encoding='utf-8')", "@.tell()", "@.seek(5)"),
    "binary file": ("open(__file__, 'rb')", "@.tell()", "@.seek(5)"),
    "raw file": ("open(__file__, 'rb', buffering=0)", "@.tell()", "@.seek(5)"),
    "temporary file": ("tempfile.TemporaryFile()", "@.tell()", "@.write(b'a')"),
    "mmap": ("mmap.mmap(-1, 4)", "@[0]", "@[0] = 1"),
    "memoryview": ("memoryview(bytearray(2))", "@[0]", "@[0] = 1"),
    "socket": ("socket.socket()", "@.gettimeout()", "@.settimeout(1)"),
    "connection": ("sqlite3.connect(':memory:')", "@.row_factory is None", "@.row_factory = dict"),
    "cursor": ("sqlite3.connect(':memory:').execute('SELECT 1')", "@.fetchone()", ""),
    "hash": ("hashlib.sha256()", "@.hexdigest()", "@.update(b'a')"),
    "decompressor": ("zlib.decompressobj()", "@.unused_data", "@.decompress(zlib.compress(b'a') + b'b')"),
    "ctypes": ("ctypes.c_int(0)", "@.value", "@.value = 1"),
    "multiprocessing.Value": ("multiprocessing.Value('i', 0)", "@.value", "@.value = 1"),
    "multiprocessing.Event": ("multiprocessing.Event()", "@.is_set()", "@.set()"),
    "weak reference": ("weakref.ref(TARGETS[0])", "@() is None", "TARGETS.clear()"),
    "WeakValueDictionary": ("weakref.WeakValueDictionary()", "len(@)", "@['a'] = Target"),
    "element": ("xml.etree.ElementTree.Element('a')", "@.tag", "@.tag = 'b'"),
    "Mock": ("unittest.mock.Mock(return_value=0)", "@()", "@.return_value = 1"),
    "handler": ("logging.Handler()", "@.level", "@.level = 10"),
    "proxy": ("types.MappingProxyType(LIST_OF)", "@['a'][0]", "LIST_OF['a'][0] = 1"),
    "list": ("[0]", "@[0]", "@[0] = 1"),
    "dict": ("{'a': 0}", "@['a']", "@['a'] = 1"),
    "deque": ("collections.deque([0])", "@[0]", "@[0] = 1"),
    "namespace": ("types.SimpleNamespace(a=0)", "@.a", "@.a = 1"),
    "decimal.Context": ("decimal.Context(prec=3)", "@.prec", "@.prec = 4"),
    "environ": ("os.environ", "@['FLOWKIT_T']", "os.environ['FLOWKIT_T'] = '2'"),
    "environ.get": ("os.environ.get", "@('FLOWKIT_T')", "os.environ['FLOWKIT_T'] = '2'"),
    "environ.items": ("os.environ.items", "dict(@())['FLOWKIT_T']", "os.environ['FLOWKIT_T'] = '2'"),
    "environb": ("os.environb", "@[b'FLOWKIT_T']", "os.environ['FLOWKIT_T'] = '2'"),
    "getenv": ("os.getenv", "@('FLOWKIT_T')", "os.environ['FLOWKIT_T'] = '2'"),
    "getenv by a computed name": ("os.getenv", "@('FLOWKIT' + '_T')", "os.environ['FLOWKIT_T'] = '2'"),
    "expandvars": ("os.path.expandvars", "@('$FLOWKIT_T')", "os.environ['FLOWKIT_T'] = '2'"),
    "argv": ("sys.argv", "@[1]", "sys.argv[1] = '2'"),
    "argv as a whole": ("sys.argv", "[*@]", "sys.argv[1] = '2'"),
    "stdin": ("sys.stdin", "@.readline()", ""),
    "getcwd": ("os.getcwd", "@()", "os.chdir('/')"),
    "Path.cwd": ("pathlib.Path.cwd", "str(@())", "os.chdir('/')"),
    "getlocale": ("locale.localeconv", "@()['decimal_point']", "locale._override_localeconv = {'decimal_point': ';'}"),
    "random.random": ("random.random", "@()", ""),
    "random.randint": ("random.randint", "@(1, 10 ** 9)", ""),
    "current_thread": ("threading.current_thread", "@().name", "threading.current_thread().name += 'x'"),
    "copy_context": ("contextvars.copy_context", "len(@())", "contextvars.ContextVar('w').set(1)"),
    "getcontext": ("decimal.getcontext", "@().prec", "decimal.getcontext().prec = 5"),
    "division": ("decimal.Decimal", "str(@(1) / 3)", "decimal.getcontext().prec = 5"),
    "getuser": ("getpass.getuser", "@()", "os.environ['LOGNAME'] = 'another'"),
}

MODULE = """
    import asyncio, collections, concurrent.futures, contextvars, csv, ctypes, decimal, functools, getpass, hashlib, io
    import itertools, locale, logging, mmap, multiprocessing, os, pathlib, queue, random, socket, sqlite3, sys, tempfile
    import threading, types, unittest.mock, weakref, xml.etree.ElementTree, zlib
    class Local(threading.local):
        value = 0
    class Dice(random.Random):
        pass
    class Target:
        pass
    def make_local():
        local = threading.local()
        local.value = 0
        return local
    LIST_OF = {"a": [0]}
    TARGETS = [Target()]
    OBJECT = {make}
    def read():
        return {read}
"""
IMPORTS = "import contextvars, dataclasses, functools, helpers\nfrom helpers import OBJECT, OBJECT as alias\n"
SPELLINGS = {
    "imported name": "def f(): return {OBJECT}",
    "alias": "def f(): return {alias}",
    "global": "own = OBJECT\ndef f(): return {own}",
    "attribute of a module": "def f(): return {helpers.OBJECT}",
    "import inside": "def f():\n    from helpers import OBJECT as inside\n    return {inside}",
    "import of the module inside": "def f():\n    import helpers as inside\n    return {inside.OBJECT}",
    "local variable": "def f():\n    local = OBJECT\n    return {local}",
    "default": "def f(given=OBJECT): return {given}",
    "keyword default": "def f(*, given=OBJECT): return {given}",
    "closure": "def make(cell):\n    def f(): return {cell}\n    return f\nf = make(OBJECT)",
    "class attribute": "class C: member = staticmethod(OBJECT)\ndef f(): return {C.__dict__['member'].__func__}",
    "partial": "def g(given): return {given}\np = functools.partial(g, OBJECT)\ndef f(): return p()",
    "keyword of a partial": "def g(given): return {given}\np = functools.partial(g, given=OBJECT)\ndef f(): return p()",
    "method of an instance": (
        "class C:\n    def __init__(self): self.inner = OBJECT\n    def m(self): return {self.inner}\n"
        "c = C()\ndef f(): return c.m()"
    ),
    "bound method": (
        "class C:\n    def __init__(self): self.inner = OBJECT\n    def m(self): return {self.inner}\n"
        "m = C().m\ndef f(): return m()"
    ),
    "callable instance": (
        "class C:\n    def __init__(self): self.inner = OBJECT\n    def __call__(self): return {self.inner}\n"
        "c = C()\ndef f(): return c()"
    ),
    "attribute of a dataclass": (
        "@dataclasses.dataclass\nclass C:\n    inner: object\nc = C(OBJECT)\ndef f(): return {c.inner}"
    ),
    "static method": "class C:\n    @staticmethod\n    def m(): return {OBJECT}\ndef f(): return C.m()",
    "helper": "def g(): return {OBJECT}\ndef f(): return g()",
    "helper in another module": "def f(): return helpers.read()",
    "getattr": "def f(): return {getattr(helpers, 'OBJECT')}",
    "walrus": "def f(): return {(local := OBJECT)}",
    "comprehension": "def f(): return [{each} for each in [OBJECT]][0]",
    "lambda inside": "def f(): return (lambda: {OBJECT})()",
    "container": "table = dict(a=OBJECT)\ndef f(): return {table['a']}",
    "nested container": "table = dict(a=[(OBJECT,)])\ndef f(): return {table['a'][0][0]}",
    "cached helper": "@functools.lru_cache\ndef get(): return OBJECT\ndef f(): return {get()}",
    "without source": "scope = dict(globals())\nexec(\"def f(): return {OBJECT}\", scope)\nf = scope['f']",
}


MAIN_OBJECTS = ["ContextVar", "local", "Event", "Queue", "count", "Random", "text file", "environ", "argv", "getcwd"]
MAIN_SPELLINGS = ["imported name", "attribute of a module", "default", "closure", "partial", "method of an instance"]
MAIN_SPELLINGS += ["helper in another module", "container", "without source"]
CASES = [
    (name, spelling) for name in OBJECTS for spelling in SPELLINGS if name in MAIN_OBJECTS or spelling in MAIN_SPELLINGS
]

ATTRIBUTES = {  # the module, the attribute, the expression that reads it, and the statement that changes it
    "environ": ("os", "environ", "@['FLOWKIT_T']", "os.environ['FLOWKIT_T'] = '2'"),
    "environ.get": ("os", "environ", "@.get('FLOWKIT_T')", "os.environ['FLOWKIT_T'] = '2'"),
    "in environ": ("os", "environ", "'FLOWKIT_T' in @", "del os.environ['FLOWKIT_T']"),
    "copy of environ": ("os", "environ", "{**@}", "os.environ['FLOWKIT_T'] = '2'"),
    "loop over environ": ("os", "environ", "[value for value in @.values()]", "os.environ['FLOWKIT_T'] = '2'"),
    "getenv": ("os", "getenv", "@('FLOWKIT_T')", "os.environ['FLOWKIT_T'] = '2'"),
    "getcwd": ("os", "getcwd", "@()", "os.chdir('/')"),
    "argv": ("sys", "argv", "@[1:]", "sys.argv[1] = '2'"),
    "stdin": ("sys", "stdin", "@.readline()", ""),
    "cwd": ("pathlib", "Path", "str(@.cwd())", "os.chdir('/')"),
    "random": ("random", "random", "@()", ""),
    "expandvars": ("os.path", "expandvars", "@('$FLOWKIT_T')", "os.environ['FLOWKIT_T'] = '2'"),
    "localeconv": ("locale", "localeconv", "@().get('a')", "locale._override_localeconv = {'a': 2}"),
    "getcontext": ("decimal", "getcontext", "@().prec", "decimal.getcontext().prec = 5"),
    "division": ("decimal", "Decimal", "str(@(1) / 3)", "decimal.getcontext().prec = 5"),
}
ATTRIBUTE_SPELLINGS = {
    "attribute": "import {m}\ndef f(): return {{m}.{a}}",
    "attribute of an alias": "import {m} as alias\ndef f(): return {alias.{a}}",
    "imported name": "from {m} import {a}\ndef f(): return {{a}}",
    "imported name as": "from {m} import {a} as alias\ndef f(): return {alias}",
    "import inside": "def f():\n    import {m}\n    return {{m}.{a}}",
    "import of the name inside": "def f():\n    from {m} import {a} as alias\n    return {alias}",
    "module in a variable": "import {m}\ndef f():\n    local = {m}\n    return {local.{a}}",
    "getattr": "import {m} as alias\ndef f(): return {getattr(alias, '{a}')}",
    "vars": "import {m} as alias\ndef f(): return {vars(alias)['{a}']}",
    "through another module": "import helpers\ndef f(): return {helpers.alias.{a}}",
    "re-exported": "from helpers import {a}\ndef f(): return {{a}}",
    "lambda": "import {m}\nf = lambda: {{m}.{a}}",
    "nested function": "import {m}\ndef f():\n    def g(): return {{m}.{a}}\n    return g()",
    "class body": "import {m}\ndef f():\n    class C:\n        member = {{m}.{a}}\n    return C.member",
    "default of a nested function": "import {m}\ndef f():\n    def g(v={{m}.{a}}): return v\n    return g()",
    "decorated helper": (
        "import contextlib, {m}\n@contextlib.contextmanager\ndef g(): yield {{m}.{a}}\n"
        "def f():\n    with g() as value: return value"
    ),
    "without source": "import {m}\nscope = dict(globals())\nexec(\"def f(): return {{m}.{a}}\", scope)\nf = scope['f']",
}


@pytest.fixture
def process(tmp_path, monkeypatch):
    """Restore what the test changes in this process."""
    import decimal
    import io
    import locale
    import threading

    monkeypatch.setenv("FLOWKIT_T", "1")
    monkeypatch.setenv("LOGNAME", "one")
    monkeypatch.setattr(sys, "argv", ["job", "1"])
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n2\n3\n"))
    monkeypatch.setattr(locale, "_override_localeconv", {})
    monkeypatch.setattr(threading.current_thread(), "name", "main")
    monkeypatch.chdir(tmp_path)
    with decimal.localcontext():
        yield


@pytest.fixture
def loaded(load):
    """Return a function that imports a module that reads an object in one spelling, and a module with the object."""

    def loaded(body, read, helpers, **names):
        for name, value in names.items():
            body = body.replace(f"{{{name}}}", value)
        body = re.sub(r"\{([^{}]*)\}", lambda found: read.replace("@", found[1]), body)
        return load(IMPORTS + body, helpers=helpers)

    return loaded


@pytest.fixture(autouse=True)
def unclosed():
    """Free the files and sockets that a test leaves open, without the warnings of a later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def check(function, change):
    """Check that the change of the state changes what the cached function returns."""
    cached = TaskCache()(function)
    first = cached()
    exec(change, vars(sys.modules["helpers"]))
    assert cached() != first


@pytest.mark.usefixtures("process")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files that are never closed
@pytest.mark.parametrize(("name", "spelling"), CASES)
def test_changed_object_changes_the_result(loaded, name, spelling):
    make, read, change = OBJECTS[name]
    helpers = MODULE.replace("{make}", make).replace("{read}", read.replace("@", "OBJECT"))
    module = loaded(SPELLINGS[spelling], read, helpers)
    check(module.f, change.replace("@", "OBJECT"))


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("spelling", ATTRIBUTE_SPELLINGS)
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_changed_attribute_of_module_changes_the_result(loaded, name, spelling):
    owner, attribute, read, change = ATTRIBUTES[name]
    helpers = f"import {owner}\nimport {owner} as alias\nfrom {owner} import {attribute}\nOBJECT = 0"
    module = loaded(ATTRIBUTE_SPELLINGS[spelling], read, helpers, m=owner, a=attribute)
    check(module.f, f"import decimal, locale, os, sys\n{change}")


UNAFFECTED = {
    "json": "import json\ndef f(): return json.dumps([1])",
    "re": "import re\nP = re.compile('a')\ndef f(): return P.sub('b', 'a'), re.findall('a', 'b')",
    "math": "from math import pi, sqrt\nimport math\ndef f(): return sqrt(pi), math.inf",
    "pathlib": "from pathlib import Path\nHERE = Path('a')\ndef f(): return str(HERE / 'b'), [*map(Path, 'ab')]",
    "datetime": (
        "from datetime import UTC, date, datetime, timedelta\ndef f(): return date(2026, 1, 1) + timedelta(1), UTC"
    ),
    "logging": "import logging\nLOG = logging.getLogger('a')\ndef f():\n    LOG.info('a')\n    logging.info('b')",
    "enum": "import enum\nclass E(enum.Enum): A = 1\ndef f(): return E.A.value",
    "dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass C: a: int = 1\ndef f(): return dataclasses.asdict(C())"
    ),
    "os.path": "import os\ndef f(): return os.path.join('a', 'b'), os.sep, os.fspath('a'), os.listdir('/') != 0",
    "own generator": "import random\ndef f(): return random.Random(1).random()",
    "chance of the system": "import secrets, uuid\ndef f(): return secrets.token_hex(2), str(uuid.uuid4())",
    "durations": "import time\ndef f(): return time.perf_counter(), time.monotonic()",
    "output": (
        "import sys\nfrom sys import stderr\ndef f():\n    print(file=stderr)\n    sys.stdout.write('')\n    return 1"
    ),
    "local objects": (
        "import threading, queue, io\n"
        "def f(): return threading.Lock().locked(), queue.Queue().qsize(), io.StringIO().read()"
    ),
    "Decimal": (
        "from decimal import Decimal, ROUND_UP\ndef f(): return str(Decimal('1.25').quantize(Decimal('0.1'), ROUND_UP))"
    ),
    "sentinel": "MISSING = object()\ndef f(a=MISSING): return a is MISSING",
    "unused import": "import os\ndef f():\n    import os, sys\n    return 1",
    "collections": (
        "import collections, functools, itertools\ndef f(): return len(collections.Counter([*itertools.chain([1])]))"
    ),
    "with lock": "import threading\nLOCK = threading.Lock()\ndef f():\n    with LOCK: return 1",
    "acquire": (
        "import threading\nLOCK = threading.RLock()\ndef f():\n    LOCK.acquire()\n    LOCK.release()\n    return 1"
    ),
    "semaphore": "import threading\nS = threading.Semaphore(2)\ndef f():\n    with S: return 1",
    "wake up": "import threading\nE = threading.Event()\ndef f():\n    E.set()\n    E.wait()\n    return 1",
    "put": "import queue\nQ = queue.Queue()\ndef f():\n    Q.put(1)\n    return 1",
    "lock of an object that changes": (
        "import threading\nclass C:\n    def __init__(self): self.lock, self.n = threading.Lock(), 0\n"
        "    def hit(self):\n        with self.lock: self.n += 1\nc = C()\ndef f():\n    c.hit()\n    return 1"
    ),
    "without source": (
        "scope = {}\nexec('import os, json\\ndef f(): return json.dumps(os.sep)', scope)\nf = scope['f']"
    ),
    "function of the module itself": "def input(): return 1\ndef f(): return input()",
}


REFUSED = {
    "own generator without a seed": "import random\ndef f(): return random.Random().random()",
    "relative path": "import os.path\ndef f(): return os.path.abspath('a')",
    "home": "from pathlib import Path\ndef f(): return Path.home()",
    "getattr": "import os\ndef f(): return getattr(os, 'getcwd')()",
    "method by getattr": "import random\nR = random.Random(1)\ndef f(): return getattr(R, 'random')()",
}


@pytest.mark.parametrize("name", REFUSED)
def test_function_that_depends_on_more_than_its_code_is_not_cached(load, name):
    f = TaskCache()(load(REFUSED[name]).f)
    f()
    assert f.explain().startswith("it cannot be cached")


@pytest.mark.parametrize("name", UNAFFECTED)
def test_ordinary_function_is_cached(load, name):
    f = TaskCache()(load(UNAFFECTED[name]).f)
    f()
    assert f.explain().startswith("cached since")


CLOCK = "import time\nfrom datetime import datetime\ndef f(): return time.time(), str(datetime.now())"


def test_function_that_reads_the_clock_is_not_cached(load, caplog):
    """The log says so once, and what to do."""
    f = TaskCache()(load(CLOCK).f)
    f()
    f()
    assert f.explain() == (
        "it cannot be cached: it reads the clock (time.time(), datetime.now()); pass the time as an argument, or limit "
        "the lifetime of results: TaskCache(ttl=3600), or TaskCache(ttl=float('inf')) if they do not depend on the time"
    )
    (record,) = caplog.records
    assert "it reads the clock" in record.getMessage()


@pytest.mark.parametrize("options", [{"ttl": 60}, {"ttl": float("inf")}, {"version": 1}, {"key": lambda: "today"}])
def test_option_allows_to_cache_a_function_that_reads_the_clock(load, options):
    f = TaskCache(**options)(load(CLOCK).f)
    assert f() == f()
    assert f.explain().startswith("cached since")


DAY = "import os\ncalls = []\ndef f():\n    calls.append(1)\n    return os.environ.get('FLOWKIT_T')"


@pytest.mark.parametrize("path", [None, "cache.json", "cache.db"])
def test_environment_variable_is_part_of_the_key(load, monkeypatch, tmp_path, path):
    module = load(DAY)
    results = []
    memory = StateManager()
    for value in ("hidden", "other", "hidden"):
        monkeypatch.setenv("FLOWKIT_T", value)
        with StateManager(tmp_path / path) if path is not None else nullcontext(memory) as state:
            cached = TaskCache(state)(module.f)
            if value == "other":
                assert cached.explain() == "environment variable FLOWKIT_T has changed"
            results.append(cached())
    assert results == ["hidden", "other", "hidden"]
    assert len(module.calls) == 2


def test_environment_variable_is_stored_as_keyed_digest(load, monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWKIT_T", "hidden")
    source = "import os\ndef f(): return len(os.environ['FLOWKIT_T'])"
    digests = []
    for name in ("one.json", "two.json"):
        path = tmp_path / name
        TaskCache(path)(load(source).f)()
        text = path.read_text()
        assert "hidden" not in text
        digests += re.findall(r'"environment variable FLOWKIT_T": ?"(\w+)', text)[:1]
    assert len({*digests}) == 2


def test_version_ignores_state_without_content_but_not_variables_by_name(load, monkeypatch):
    source = """
        import contextvars, os
        V = contextvars.ContextVar("v", default=0)
        def f(): return V.get(), {**os.environ} == {}, os.environ["FLOWKIT_T"]
    """
    monkeypatch.setenv("FLOWKIT_T", "1")
    cached = TaskCache(version=1)(load(source).f)
    assert cached() == cached()
    assert cached.explain().startswith("cached since")
    monkeypatch.setenv("FLOWKIT_T", "2")
    assert cached.explain() == "environment variable FLOWKIT_T has changed"


def test_decimal_context_is_part_of_the_key(load):
    import decimal

    cached = TaskCache()(load("from decimal import Decimal\nA = Decimal(1)\ndef f(): return str(A / 3)").f)
    plain = cached()
    with decimal.localcontext(prec=3):
        assert cached() == "0.333"
    assert cached() == plain


def test_refused_state_is_named_with_a_way_out(load, caplog):
    cached = TaskCache()(
        load("import contextvars\nuser = contextvars.ContextVar('user')\ndef f(): return user.get(0)").f
    )
    cached()
    cached()
    assert len(caplog.records) == 1
    assert 'A call of "etl.f" is not cached: constant etl.user is of type _contextvars.ContextVar, ' in caplog.text
    assert "pass the value as an argument" in caplog.text
