"""Reports in a real browser, steered by the DevTools protocol: search, order, keys, colors, paper, and no request."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import threading

import pytest

from flowkit_core import DAG, Task
from flowkit_state import StateManager
from flowkit_view.report.page import write_page
from flowkit_view.report.run_model import AttemptModel, ExecutionModel, RunModel, TaskModel
from flowkit_view.server import RunServer

websocket = pytest.importorskip("websocket")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="platform: no browser is installed")
HOSTILE = "</script><img src=http://127.0.0.1:9/x onerror=alert(1)><a href='javascript:alert(2)'>"
TIMEOUT = 120
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27}


class Browser:
    """A headless browser with one page, steered by the DevTools protocol."""

    def __init__(self, profile):
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
        options += ["--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen([BROWSER, *options, "about:blank"], stderr=subprocess.PIPE, text=True)
        address = next(line for line in self.process.stderr if "DevTools listening on " in line).split()[-1]
        self.reader = threading.Thread(target=self.process.stderr.read, daemon=True)  # a full pipe would stop it
        self.reader.start()
        self.socket = websocket.create_connection(address, timeout=TIMEOUT)
        self.calls = 0
        self.session = None
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Call a method, and return its result; events that come before it are kept."""
        self.calls += 1
        session = {} if self.session is None else {"sessionId": self.session}
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": params, **session}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.calls:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, url):
        """Open a page, and return when it has been loaded."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait_for_load()

    def wait_for_load(self):
        """Return when a page has been loaded since the last call of `open`, or of this method."""
        while "Page.loadEventFired" not in self.methods:
            self.events.append(json.loads(self.socket.recv()))
        self.events = [event for event in self.events if event["method"] != "Page.loadEventFired"]

    def evaluate(self, expression):
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key, *, shift=False):
        """Press a key as a person does."""
        text = {"text": "\r"} if key == "Enter" else {}
        fields = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **fields, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **fields)

    def type(self, text):
        """Type characters into the element that has the focus."""
        for character in text:
            self.call("Input.dispatchKeyEvent", type="keyDown", text=character, key=character)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=character)

    def tab_to(self, expression):
        """Press Tab until an expression about the element with the focus is true."""
        for _ in range(200):
            self.press("Tab")
            if self.evaluate(expression):
                return
        pytest.fail(f"Tab does not reach an element with {expression}")

    @property
    def methods(self):
        return [event["method"] for event in self.events]

    @property
    def names(self):
        """The names in the rows of the table."""
        return self.evaluate("[...document.querySelectorAll('#table td.name')].map((each) => each.textContent)")

    @property
    def found(self):
        return self.evaluate("document.getElementById('found').textContent")

    def assert_quiet(self, url):
        """Check that a page has asked for nothing beyond its address, has shown no dialog, and has logged nothing."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        sent = [event["params"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        asked = [each["request"]["url"] for each in sent]
        assert [each for each in asked if not each.startswith(url)] == []
        assert asked.count(url) == 1
        unwanted = (
            "Page.javascriptDialogOpening",
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
            "Log.entryAdded",
        )
        assert [event for event in self.events if event["method"] in unwanted] == []

    def close(self):
        self.session = None
        self.call("Browser.close")
        self.socket.close()
        self.process.wait(TIMEOUT)
        self.reader.join()
        self.process.stderr.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def model(count, failed=()):
    """Return the model of a run of tasks that took longer the later they started, some of which failed."""
    tasks = []
    for number in range(count):
        attempt = AttemptModel(number, 2.0 * number + 1, number, f"thread {number % 4}")
        state = "failed" if number in failed else "succeeded"
        tasks.append(TaskModel(f"part {number:05}", (), state, [attempt]))
        if number in failed:
            tasks[-1].error = f"ValueError: {HOSTILE}"
    return RunModel(
        "etl", "1", "failed" if failed else "succeeded", [ExecutionModel(0.0, 2.0 * count, "failed")], tasks
    )


@pytest.fixture
def report(tmp_path, browser):
    """The report of a run of which a task failed, open in the browser."""
    path = tmp_path / "run.html"
    tasks = [Task(lambda: 1, name=f"part {number}") for number in range(12)]
    dag = DAG("etl", tasks=[*tasks, Task(lambda: {}["<row>"], name="broken")])
    dag.run("serial", report=path, raise_on_failure=False, fail_fast=False)
    browser.open(path.as_uri())
    return path


def test_search_by_keyboard_and_escape(report, browser):
    assert len(browser.names) == 13
    browser.tab_to("document.activeElement.id === 'search'")
    browser.type("PART 1")
    assert browser.names == ["part 1", "part 10", "part 11"]
    assert browser.found == "3 of 13 tasks"
    browser.press("Escape")
    assert (browser.evaluate("document.getElementById('search').value"), len(browser.names)) == ("", 13)
    browser.type("keyerror")  # the reason
    assert browser.names == ["broken"]
    browser.assert_quiet(report.as_uri())


def test_elements_are_shown_only_when_searched(tmp_path, browser):
    path = tmp_path / "run.html"
    invert = Task(lambda number: 1 / number, name="invert").map("number", errors="drop")
    DAG("numbers", tasks=[invert]).run("serial", params={"number": [1, 0, 2]}, report=path)
    browser.open(path.as_uri())
    assert (browser.names, browser.found) == (["invert"], "1 of 1 task")
    browser.tab_to("document.activeElement.id === 'search'")
    browser.type("zerodivision")
    assert (browser.names, browser.found) == (["invert[1]"], "0 of 1 task and 1 element")
    browser.press("Escape")
    assert browser.names == ["invert"]
    browser.assert_quiet(path.as_uri())


def test_state_is_chosen(report, browser):
    browser.tab_to("document.activeElement.id === 'state'")
    browser.type("f")
    assert browser.evaluate("document.getElementById('state').value") == "failed"
    assert browser.names == ["broken"]


def test_columns_are_sorted_by_keyboard(report, browser):
    browser.tab_to("document.activeElement.textContent === 'task'")
    browser.press("Enter")
    assert browser.names[:4] == ["broken", "part 0", "part 1", "part 10"]
    browser.press("Enter")
    assert browser.names[-1] == "broken"
    assert browser.evaluate("document.activeElement.parentElement.getAttribute('aria-sort')") == "descending"
    browser.press("Tab")
    browser.press("Enter")
    assert browser.evaluate("document.querySelectorAll('th[aria-sort]').length") == 1
    assert browser.evaluate("document.querySelector('th[aria-sort]').textContent") == "state"
    browser.press("Tab", shift=True)
    assert browser.evaluate("document.activeElement.textContent") == "task"
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.assert_quiet(report.as_uri())


def test_traceback_is_unfolded_by_keyboard(report, browser):
    shown = "document.querySelector('.failure pre').checkVisibility()"
    assert browser.evaluate(shown) is False
    browser.tab_to("document.activeElement.textContent === 'Traceback'")
    browser.press("Enter")
    assert browser.evaluate(shown) is True
    assert "KeyError: '<row>'" in browser.evaluate("document.querySelector('.failure pre').innerText")
    browser.press("Enter")
    assert browser.evaluate(shown) is False


def test_colors_follow_the_system(report, browser):
    colors = {}
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        style = "((each) => [each.backgroundColor, each.color])(getComputedStyle(document.body))"
        colors[scheme] = [[*map(int, re.findall(r"\d+", color))] for color in browser.evaluate(style)]
    browser.call("Emulation.setEmulatedMedia", features=[])
    for back, text in (colors["light"], colors["dark"][::-1]):
        assert min(back) > 200
        assert max(text) < 60


def test_report_is_printed(report, browser):
    pdf = base64.b64decode(browser.call("Page.printToPDF")["data"])
    assert pdf.startswith(b"%PDF-")
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") >= 1


def test_hostile_texts_are_data_only(tmp_path, browser):
    path = tmp_path / "run.html"

    def fail(p):
        raise ValueError(HOSTILE)

    tasks = [Task(fail, name=HOSTILE), Task(fail, name=f"{HOSTILE} each").map("p", label=str)]
    DAG(HOSTILE, tasks=tasks).run(
        "serial", params={"p": [HOSTILE]}, report=path, raise_on_failure=False, fail_fast=False
    )
    browser.open(path.as_uri())
    folded = "document.querySelectorAll('details:not([open])').length"
    assert browser.evaluate(folded) >= 2
    while browser.evaluate(folded):
        browser.tab_to("document.activeElement.matches('details:not([open]) > summary')")
        browser.press("Enter")
    browser.tab_to("document.activeElement.id === 'search'")
    browser.type("onerror")
    assert HOSTILE in browser.names
    assert browser.evaluate("document.querySelectorAll('img, a, iframe, form').length") == 0
    assert browser.evaluate("document.title").startswith(HOSTILE)
    browser.assert_quiet(path.as_uri())


def test_ten_thousand_tasks_are_few_elements(tmp_path, browser):
    path = tmp_path / "run.html"
    write_page(model(10_000, failed=range(5)), path)
    browser.open(path.as_uri())
    assert browser.found.startswith("10000 of 10000 tasks, the first 200 shown")
    count = browser.evaluate("document.querySelectorAll('*').length")
    assert count < 6000
    browser.tab_to("document.activeElement.id === 'more'")
    browser.press("Enter")
    assert len(browser.names) == 1200
    browser.tab_to("document.activeElement.id === 'search'")
    browser.type("09999")
    assert browser.names == ["part 09999"]
    browser.assert_quiet(path.as_uri())


@pytest.fixture
def running(tmp_path):
    """The server of a file with a run that is going on, and the journal of that run."""
    path = str(tmp_path / "runs.db")
    with StateManager(path) as state, RunServer(state, path, 0, interval=0.01) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server, state.open_run("1", HOSTILE, [Task(list, name="load")], [()], {}, resume=False)
        server.shutdown()
        thread.join()


def test_list_leads_to_the_report(running, browser):
    server, journal = running
    journal.close("interrupted", [], None)
    browser.open(server.url)
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    browser.assert_quiet(server.url)
    browser.tab_to("document.activeElement.tagName === 'A'")
    browser.press("Enter")
    browser.wait_for_load()
    assert (browser.names, browser.evaluate("document.querySelector('h1').textContent")) == (["load"], HOSTILE)


VERDICT = "document.querySelector('.verdict .state').textContent"


def test_served_page_is_loaded_again_when_the_run_has_changed(running, browser):
    server, journal = running
    browser.open(f"{server.url}run/1")
    assert browser.evaluate(VERDICT) == "running"
    journal.close("interrupted", [], None)
    browser.wait_for_load()
    assert browser.evaluate(VERDICT) == "interrupted"


def test_served_page_that_is_read_is_not_loaded_again_by_itself(running, browser):
    server, journal = running
    browser.open(f"{server.url}run/1")
    browser.tab_to("document.activeElement.id === 'search'")
    browser.type("lo")
    observe = "new MutationObserver(done).observe(document.getElementById('changed'), {attributes: true})"
    browser.evaluate(f"window.shown = new Promise((done) => {observe}); 0")
    journal.close("interrupted", [], None)
    browser.evaluate("window.shown.then(() => 0)")
    assert (browser.names, browser.evaluate(VERDICT)) == (["load"], "running")
    browser.tab_to("document.activeElement.id === 'changed'")
    browser.press("Enter")
    browser.wait_for_load()
    assert browser.evaluate(VERDICT) == "interrupted"


def test_served_page_with_failed_elements_is_loaded_again_when_the_run_has_changed(tmp_path, browser):
    """The failures of elements are open at first: only what the reader has opened keeps the page."""
    path, last_has_started, go_on = str(tmp_path / "runs.db"), threading.Event(), threading.Event()
    invert = Task(lambda number: 1 / number, name="invert").map("number", errors="drop")
    last = Task(lambda invert: last_has_started.set() or go_on.wait(60), name="last")
    invert >> last
    dag = DAG("dropped", tasks=[last])
    run = threading.Thread(target=dag.run, args=("thread",), kwargs={"params": {"number": [1, 0]}, "state": path})
    run.start()
    assert last_has_started.wait(60)
    with StateManager(path) as state, RunServer(state, path, 0, interval=0.01) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        browser.open(f"{server.url}run/{state.runs()[0].run_id}")
        while not browser.evaluate("document.querySelectorAll('details[open]').length"):  # until it is recorded
            browser.wait_for_load()
        go_on.set()
        while browser.evaluate(VERDICT) != "succeeded":
            browser.wait_for_load()
        run.join()
        server.shutdown()
        thread.join()


def test_folded_parts_are_open_on_paper(tmp_path, browser):
    path = tmp_path / "run.html"
    DAG("failing", tasks=[Task(lambda: 1 / 0, name="fail")]).run("serial", report=path, raise_on_failure=False)
    browser.open(path.as_uri())
    folded = "document.querySelectorAll('details:not([open])').length"
    before = browser.evaluate(folded)
    assert before > 0
    assert browser.evaluate(f"window.dispatchEvent(new Event('beforeprint')), {folded}") == 0
    assert browser.evaluate(f"window.dispatchEvent(new Event('afterprint')), {folded}") == before
