"""Runs the example of operation with Debian's Prometheus: rules, dashboard, and each alert's fault.

Run: VIRTUAL_ENV=.venv python3 .ci/operate.py target/debug/examples/operate

1. `promtool` checks the configuration and the rules, and runs their unit tests.
2. Prometheus scrapes the example under load, with rules whose windows are seconds in place of
   minutes: no alert fires while nothing goes wrong, and each fires by its fault, with no other than
   those that the fault explains. A machine that stands still raises alerts too, but not each time.
3. `promtool` finds no fault in the metrics. Each metric that rules and dashboard name exists then,
   and each expression of the dashboard has a series.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

OPERATE = Path(__file__).resolve().parent.parent / "examples" / "operate"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


PROMETHEUS = f"http://127.0.0.1:{free_port()}"
# How long a wait may take, in seconds.
LIMIT = 90
# How long no alert fires at first.
NORMAL = 20
# How often a fault is tried that comes with an alert which it does not explain.
TRIES = 3
# The windows and waits of the rules, in seconds; all other waits are 1.
SHORT = {"5m": 10, "15m": 10, "30m": 10, "1h": 15, "6h": 20}
BUDGET = {"TowerDspyErrorBudgetFast", "TowerDspyErrorBudgetSlow"}
SINKING = {"TowerDspyTimeLeftSinking"}
OVERLOADED = {"TowerDspyOverloaded"}
WASTED = {"TowerDspyTokensWasted"}
EMPTY = {"TowerDspyBudgetEmpty"}
NOT_READY = {"TowerDspyNotReady"}
RESTART = {"TowerDspyWorkersRestart"}
ORPHANS = {"TowerDspyOrphans"}
# Each fault, the alerts that it is for, and those that may fire besides: slower calls hold
# permits, miss deadlines and are hedged. The last faults end workers.
FAULTS = [
    ("slow", SINKING, BUDGET | OVERLOADED | WASTED | EMPTY),
    ("hang", BUDGET | SINKING, OVERLOADED | WASTED | EMPTY),
    ("unavailable", BUDGET | EMPTY, WASTED),
    ("garbage", BUDGET | WASTED, EMPTY),
    ("overload", BUDGET | OVERLOADED, SINKING | WASTED | EMPTY),
    (
        "ignore-cancel",
        ORPHANS,
        BUDGET | SINKING | OVERLOADED | WASTED | EMPTY | RESTART | NOT_READY,
    ),
    ("blocked", NOT_READY | RESTART, BUDGET | SINKING | OVERLOADED | WASTED | EMPTY | ORPHANS),
]
DOWN = "TowerDspyDown"
METRIC = re.compile(r"\b(?:tower_dspy|gen_ai)_\w+")
# The names of rules and of their groups.
RULE = re.compile(r"\w+:tower_dspy_\w+:\w+|- name: \w+")
# Labels of the conventions, which begin as metrics do.
LABELS = {"gen_ai_request_model", "gen_ai_token_type"}


def read(url: str, method: str = "GET") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
        return answer.read()


def ask(path: str, **parameters: str) -> dict:
    query = urllib.parse.urlencode(parameters)
    return json.loads(read(f"{PROMETHEUS}/api/v1/{path}?{query}"))["data"]


def wait_for(what: str, found: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not found():
        assert time.monotonic() < end, f"not within {LIMIT} s: {what}"
        time.sleep(0.5)


def firing() -> set[str]:
    """The alerts that fire; one that is pending does not yet."""
    alerts = ask("alerts")["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def shortened(rules: str) -> str:
    """The rules, with windows of seconds, and orphans that are old after 2."""
    rules = rules.replace("orphan_age_seconds > 60", "orphan_age_seconds > 2")
    rules = re.sub(r"\[(\w+)\]", lambda match: f"[{SHORT[match[1]]}s]", rules)
    return re.sub(r"\bfor: \w+", "for: 1s", rules)


def expressions() -> list[str]:
    """Those of the dashboard, over all of the test."""
    dashboard = json.loads((OPERATE / "dashboard.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    values = {"$__rate_interval": "10m", "$job": ".*", "$program": ".*"}
    found = []
    for target in targets:
        expression = target["expr"]
        for name, value in values.items():
            expression = expression.replace(name, value)
        assert "$" not in expression, expression
        found.append(expression)
    return found


def check_files() -> None:
    for command in (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
    ):
        subprocess.run(["promtool", *command], cwd=OPERATE, check=True)


@contextmanager
def process(*command: str | Path, **options: object) -> Iterator[subprocess.Popen]:
    with subprocess.Popen(command, **options) as started:
        try:
            yield started
            assert started.poll() is None, f"{command[0]} ended by itself"
        finally:
            started.terminate()
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                started.kill()


@contextmanager
def example(binary: str) -> Iterator[str]:
    """The URL of the example."""
    env = os.environ | {"ADDRESS": "127.0.0.1:0"}
    with process(binary, env=env, stderr=subprocess.PIPE, text=True) as server:
        lines = iter(server.stderr)
        url = next((line.strip() for line in lines if line.startswith("http://")), None)
        assert url, "the example did not start"
        yield url


@contextmanager
def prometheus(url: str) -> Iterator[None]:
    """Prometheus, which scrapes the example each second."""
    with tempfile.TemporaryDirectory() as folder:
        rules = shortened((OPERATE / "alerts.yml").read_text())
        Path(folder, "alerts.yml").write_text(rules)
        config = (OPERATE / "prometheus.yml").read_text()
        config = re.sub(r"_interval: \w+", "_interval: 1s", config)
        config = config.replace("127.0.0.1:8080", url.removeprefix("http://"))
        Path(folder, "prometheus.yml").write_text(config)
        command = [
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={PROMETHEUS.removeprefix('http://')}",
            "--log.level=warn",
        ]
        with process(*command):
            wait_for("Prometheus answers", is_up)
            yield


def is_up() -> bool:
    try:
        targets = ask("targets")["activeTargets"]
    except OSError:
        return False
    return [target["health"] for target in targets] == ["up"]


def check_alerts(url: str) -> None:
    # Without the series of a counter there is no rate yet.
    wait_for("calls", lambda: ask("query", query="tower_dspy_calls_total > 20")["result"])
    # Before its first answer the example is down.
    wait_for("no alert at the start", lambda: not firing())
    quiet = time.monotonic()
    end = quiet + 2 * LIMIT
    while time.monotonic() < quiet + NORMAL:
        if alerts := firing():
            quiet = time.monotonic()
            assert quiet < end, alerts
        time.sleep(0.5)
    print(f"no alert in {NORMAL} s under load")
    for fault, alerts, others in FAULTS:
        for tries in range(1, TRIES + 1):
            # Those before may have been the reason of the same alert.
            read(f"{url}/fault/none", "PUT")
            wait_for(f"no alert before {fault}", lambda: not firing())
            began = time.monotonic()
            read(f"{url}/fault/{fault}", "PUT")
            wrong = fire_together(fault, alerts, others)
            if not wrong:
                break
            print(f"{fault}: also {', '.join(sorted(wrong))}")
            assert tries < TRIES, f"{fault}: {wrong}"
        print(f"{fault}: {', '.join(sorted(alerts))} after {time.monotonic() - began:.0f} s")
    read(f"{url}/fault/none", "PUT")


def fire_together(fault: str, alerts: set[str], others: set[str]) -> set[str]:
    """Waits until all of `alerts` have fired; returns those that fire and are in neither set."""
    missing = set(alerts)
    end = time.monotonic() + LIMIT
    while missing:
        now = firing()
        if wrong := now - alerts - others:
            return wrong
        missing -= now
        assert time.monotonic() < end, f"{fault}: {missing} do not fire within {LIMIT} s"
        time.sleep(0.5)
    return set()


def check_metrics(url: str) -> None:
    metrics = read(f"{url}/metrics")
    subprocess.run(["promtool", "check", "metrics"], input=metrics, check=True)
    known = set(ask("label/__name__/values"))
    texts = [(OPERATE / "alerts.yml").read_text(), *expressions()]
    named = {name for text in texts for name in METRIC.findall(RULE.sub("", text))}
    missing = named - known - LABELS
    assert not missing, f"no such metrics: {missing}"
    empty = [
        expression for expression in expressions() if not ask("query", query=expression)["result"]
    ]
    assert not empty, "the dashboard has expressions without a series:\n" + "\n".join(empty)
    print(f"{len(named - LABELS)} metrics, {len(expressions())} expressions of the dashboard")


def main() -> None:
    check_files()
    documented = set(re.findall(r"alert: (\w+)", (OPERATE / "alerts.yml").read_text()))
    tested = {DOWN}.union(*(alerts for _, alerts, _ in FAULTS))
    assert documented == tested, documented ^ tested
    with ExitStack() as stack:
        with example(sys.argv[1]) as url:
            stack.enter_context(prometheus(url))
            check_alerts(url)
            check_metrics(url)
        wait_for(f"{DOWN} without the process", lambda: DOWN in firing())


if __name__ == "__main__":
    main()
