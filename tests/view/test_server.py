"""`flowkit serve`: pages, events, and what the server refuses."""

from __future__ import annotations

import http.client
import threading

import pytest

from flowkit_core import DAG, Task
from flowkit_state import StateManager
from flowkit_view.server import RunServer

HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def runs(tmp_path):
    """A file with a run of hostile names, and the server that shows it."""
    path = str(tmp_path / "runs.db")
    dag = DAG(HOSTILE, tasks=[Task(lambda p: 1 / 0, name=HOSTILE)])
    with StateManager(path) as state:
        dag.run("serial", params={"p": HOSTILE}, state=state, raise_on_failure=False)
        with RunServer(state, path, 0, interval=0.01) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            yield server
            server.shutdown()
            thread.join()


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text, response.headers


def test_list_links_to_reports(runs):
    (run,) = runs.state.runs()
    status, text, headers = ask(runs, "/")
    assert status == 200
    assert f'<a href="/run/{run.run_id}">{run.run_id}</a>' in text
    assert "<img" not in text
    assert (headers["X-Frame-Options"], headers["Cache-Control"]) == ("DENY", "no-store")


def test_run_page_is_its_report(runs):
    (run,) = runs.state.runs()
    status, text, _ = ask(runs, f"/run/{run.run_id}")
    assert status == 200
    assert "ZeroDivisionError" in text
    assert '<a href="/">All runs</a>' in text
    assert "<img" not in text
    assert "data-events" not in text  # it has ended


def test_page_of_running_run_gets_events(runs):
    tasks = [Task(list, name="load")]
    journal = runs.state.open_run("going on", "etl", tasks, [()], {}, resume=False)
    _, text, _ = ask(runs, "/run/going%20on")
    assert f'data-events="/events/{runs.version()}"' in text
    assert "connect-src &#39;self&#39;;" in text
    journal.close("interrupted", [], None)


def test_event_is_sent_when_something_is_recorded(runs):
    connection = http.client.HTTPConnection("127.0.0.1", runs.server_address[1], timeout=60)
    connection.request("GET", f"/events/{runs.version()}")
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.readline() == b": flowkit\n"
    DAG("next", tasks=[Task(list, name="load")]).run("serial", state=runs.state)
    assert response.readline() == b"\n"
    assert response.readline() == b"data: changed\n"
    response.close()
    connection.close()


def test_reading_is_no_change(runs):
    version = runs.version()
    (run,) = runs.state.runs()
    for path in ("/", f"/run/{run.run_id}", "/"):
        assert ask(runs, path)[0] == 200
    assert runs.version() == version


def test_change_before_the_stream_begins_is_sent(runs):
    connection = http.client.HTTPConnection("127.0.0.1", runs.server_address[1], timeout=60)
    connection.request("GET", "/events/an-older-version")
    response = connection.getresponse()
    assert [response.readline() for _ in range(3)][2] == b"data: changed\n"
    response.close()
    connection.close()


@pytest.mark.parametrize("path", ["/run/unknown", "/nothing", "/run/", "/../runs.db"])
def test_unknown_page_is_not_found(runs, path):
    assert ask(runs, path)[0] == 404


def test_page_that_cannot_be_made_is_an_error_of_the_server(runs, monkeypatch, capfd):
    def fail(self):
        raise OSError("the file is gone")

    monkeypatch.setattr(RunServer, "list_page", fail)
    status, text, _ = ask(runs, "/")
    assert (status, text) == (500, "This page cannot be shown: OSError: the file is gone")
    assert "the file is gone" in capfd.readouterr().err


@pytest.mark.parametrize("host", ["example.com", "example.com:80", "127.0.0.1.example.com", ""])
def test_request_to_other_host_is_refused(runs, host):
    assert ask(runs, "/", Host=host)[0] == 403


def test_local_names_are_answered(runs):
    assert ask(runs, "/", Host="localhost:1234")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_reading_is_supported(runs, method):
    assert ask(runs, "/", method)[0] == 501


def test_server_listens_on_this_machine_only(runs):
    assert runs.server_address[0] == "127.0.0.1"


def test_port_in_use_exits_2(recorded, runs, flowkit):
    answer = flowkit("serve", recorded, "--port", runs.server_address[1])
    assert (answer.code, answer.out) == (2, "")
    assert "choose another --port" in answer.err
    assert flowkit("serve", recorded, "--port", "70000").code == 2


def test_interrupt_stops_the_server(recorded, flowkit, monkeypatch):
    def serve_forever(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunServer, "serve_forever", serve_forever)
    answer = flowkit("serve", recorded, "--port", "0", "--json")
    assert (answer.code, answer.json["url"].startswith("http://127.0.0.1:")) == (0, True)
