"""Where W&B's runs go: online, offline, nowhere; never at the cost of a result."""

import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.sdk.lib import urls, wbauth
from wandb_file import offline_runs

from veil.config import Config
from veil.report import tracking
from veil.report.names import logged_name, logged_names
from veil.report.published import FILE
from veil.report.tracking import connection, wandb_logger
from veil.storage.folders import RunFolder
from veil.storage.progress import Stages
from veil.tasks.evaluate import evaluate
from veil.tasks.publish import tracked

KEY = "0123456789abcdef" * 2 + "01234567"
SORTABLE = re.compile(r"^[_a-zA-Z][_a-zA-Z0-9/]*$")  # W&B's own words


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes calls and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def refusing() -> Iterator[str]:
    """The address of a server that knows no key."""

    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def nobody() -> Iterator[str]:
    """An address at which nothing listens."""
    yield "http://127.0.0.1:9"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """W&B without mode, key or netrc, which reads its environment anew; the path of a netrc to write."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()
    yield tmp_path / "netrc"
    wandb.teardown()


def opened(folder: Path) -> tracking.VeilWandb:
    return wandb_logger("name", "0123", None, "evaluate", "veil", str(folder))


@pytest.mark.parametrize("host", ["https://api.wandb.ai", urls.DEFAULT_BASE_URL])  # older and newer logins
def test_whom_wandb_knows_is_logged_in(host: str, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(tracking, "_answers", lambda url: asked.append(url) or True)
    assert connection() == (False, "nobody is logged in (`wandb login`)")
    wbauth.write_netrc_auth(host=host, api_key=KEY)  # as `wandb login` does
    assert connection() == (True, "")
    assert asked == [urls.DEFAULT_BASE_URL]


def test_a_damaged_netrc_is_nobody(fresh: Path) -> None:
    fresh.write_text("machine\nlogin user\npassword ü {")
    assert connection() == (False, "nobody is logged in (`wandb login`)")
    logger = opened(fresh.parent)
    assert logger.experiment.offline
    assert not logger.again  # as it always is, for who is not logged in
    logger.experiment.finish()


@pytest.mark.parametrize(
    ("server", "seconds", "reason"),
    [(refusing, 15, "401"), (silent, 12, "does not answer"), (nobody, 12, "does not answer")],
)
def test_a_key_without_a_server_that_takes_it_is_offline_in_seconds(
    server: Callable[[], Any],
    seconds: float,
    reason: str,
    fresh: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with server() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        began = time.monotonic()
        logger = opened(fresh.parent)
        assert time.monotonic() - began < seconds
    assert logger.experiment.offline
    assert reason in logger.again
    logger.log_metrics({"a@b": 1.0})
    logger.experiment.finish()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "wandb sync" in line]
    (run,) = offline_runs(fresh.parent)
    assert str(run.folder) in line
    assert run.history["a_at_b"] == [1.0]


def test_names_can_be_sorted_and_no_two_are_the_same() -> None:
    assert logged_name("privacy/facenet/tar@far=1e-3/value") == "privacy/facenet/tar_at_far_1e_3/value"
    names = ["a-b", "a=b", "a_b", "a@b", "5_o_Clock", "Größe/x", "gr??e", "", "a b", "check/coverage/n"]
    logged = logged_names(names)
    assert set(logged) == set(names)
    assert len(set(logged.values())) == len(names)
    assert all(SORTABLE.match(name) for name in logged.values())
    assert logged["a_b"] == "a_b"  # what needs no change has none
    assert logged["check/coverage/n"] == "check/coverage/n"


def test_listeners_hear_every_few_seconds_and_at_a_stages_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("veil.storage.progress.time.monotonic", lambda: now[0])
    stages, heard = Stages(), list[dict[str, Any]]()
    stages.listeners.append(heard.append)
    with stages.bar("paint", 10) as advance:
        for _ in range(4):
            now[0] += 2
            advance(2)
        stages.means["privacy/a"] = 0.5
    stages.listeners.clear()
    with stages.bar("other", 1) as advance:
        advance(1)
    assert heard == [
        {"stage": "paint", "faces_done": 6, "faces_a_second": 1.0},
        {"stage": "paint", "faces_done": 8, "faces_a_second": 1.0, "privacy/a": 0.5},
    ]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one run, which every test finds."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture
def found(small_run: Callable[..., Config], outputs: Path, tmp_path: Path) -> Callable[..., Config]:
    """Configs of the one run, logged somewhere else in each test."""

    def config(*overrides: str) -> Config:
        quick = ("masker=random", "inpainter=fill", "attacks=none", f"outputs={outputs}")
        evaluate(small_run(*quick))
        wandb_here = ("logger=wandb", f"logger.save_dir={tmp_path}", f"logger.project={tmp_path.name}")
        return small_run(*quick, *wandb_here, *overrides)

    return config


def test_a_found_run_is_logged_once_and_under_its_own_id(found: Callable[..., Config], tmp_path: Path) -> None:
    config = found()
    folder = evaluate(config)
    evaluate(config)
    (run,) = offline_runs(tmp_path)
    assert run.history["check/coverage/value"] == [0.25]
    assert (run.run.job_type, run.run.run_group, run.exit_code) == ("evaluate", "", 0)
    mark = json.loads((folder / FILE).read_text())
    assert mark[f"veil.report.tracking.wandb_logger {tmp_path.name}"] == {"again": False}
    again = evaluate(found(f"logger.project={tmp_path.name}-other"))
    assert again == folder
    assert [run.run.run_id for run in offline_runs(tmp_path)] == [run.run.run_id] * 2
    assert run.run.resume


def test_a_found_run_is_logged_in_an_agents_run(
    found: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = found()
    evaluate(config)
    for name, value in (("WANDB_SWEEP_ID", "sweep1"), ("WANDB_RUN_ID", "agents1"), ("WANDB_PROJECT", "theirs")):
        monkeypatch.setenv(name, value)
    wandb.teardown()
    evaluate(config)
    wandb.teardown()
    first, second = sorted(offline_runs(tmp_path), key=lambda run: run.run.run_id == "agents1")
    assert (second.run.run_id, second.run.sweep_id, second.run.project) == ("agents1", "sweep1", "theirs")
    assert second.history["check/coverage/value"] == first.history["check/coverage/value"] == [0.25]


@pytest.mark.parametrize("error", [wandb.Error("no"), OSError("disk"), wandb.errors.CommError("gone")])
def test_what_a_logger_fails_at_costs_nothing_and_is_tried_again(
    error: Exception,
    found: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = found()

    def fail(*_: Any, **__: Any) -> None:
        raise error

    for where in ("wandb.init", "wandb.sdk.wandb_run.Run.log", "wandb.sdk.wandb_run.Run.finish"):
        with monkeypatch.context() as patched:
            patched.setattr(where, fail)
            assert (evaluate(config) / "metrics.json").exists()
        assert f"not logged, for {error}" in capsys.readouterr().out
        wandb.teardown()
    evaluate(config)
    assert offline_runs(tmp_path)[-1].history["check/coverage/value"] == [0.25]
    count = len(offline_runs(tmp_path))
    evaluate(config)
    assert len(offline_runs(tmp_path)) == count


def test_a_run_that_had_to_stay_offline_is_logged_when_the_server_answers(
    found: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = found()
    init = tracking.VeilWandb.__init__

    def unwilling(self: Any, run: Any, *rest: Any) -> None:
        init(self, run, *rest[:3], again="a server that does not answer")

    monkeypatch.setattr(tracking.VeilWandb, "__init__", unwilling)
    evaluate(config)
    monkeypatch.setattr(tracking.VeilWandb, "__init__", init)
    monkeypatch.setattr("veil.tasks.publish.connection", lambda: (True, "no answer"))
    evaluate(config)
    assert len(offline_runs(tmp_path)) == 1
    monkeypatch.setattr("veil.tasks.publish.connection", lambda: (True, ""))
    evaluate(config)
    evaluate(config)
    assert len(offline_runs(tmp_path)) == 2


def test_work_that_fails_ends_its_run_as_failed_and_the_next_is_another(
    small_run: Callable[..., Config], tmp_path: Path
) -> None:
    config = small_run("logger=wandb")

    def work(name: str, divisor: int) -> float:
        with tracked(config, RunFolder(config.outputs, Path(name), asdict(config)), name, publishes=False):
            return 1 / divisor

    with pytest.raises(ZeroDivisionError):
        work("one", 0)
    work("two", 1)
    ends = {run.run.display_name: (run.exit_code, run.run.run_id) for run in offline_runs(Path(config.outputs))}
    assert (ends["one"][0], ends["two"][0]) == (1, 0)
    assert ends["one"][1] != ends["two"][1]
