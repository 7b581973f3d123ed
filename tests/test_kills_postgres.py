"""Two hosts' supervisors at one study on a real PostgreSQL: they, their children and the server are killed."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from chaos import Search, check_sound, ended, until

from fkpsearch.ledger import read
from fkpsearch.storage import safe_url

TRIALS = 80


@pytest.fixture
def server() -> Iterator[servers.Postgres]:
    with servers.postgres() as running:
        yield running


def test_two_hosts_of_four_children_under_kills_and_a_restart_of_the_server_finish_exactly_their_trials(
    server: servers.Postgres, shared_tiny: Path, tmp_path: Path
) -> None:
    url, chance = server.new_database(), random.Random(7)
    database = url.rpartition("/")[2]
    folders = [tmp_path / host / "faces" for host in ("one", "two")]
    said = [tmp_path / host / "said" for host in ("one", "two")]

    def start(host: int) -> Search:
        told = {"data": shared_tiny, "trials": TRIALS, "workers": 4, "epoch": 0.8}
        return Search(said[host], {"TINY_URL": url}, folder=folders[host], **told)

    def finished() -> int:
        there = server.query("SELECT 1 FROM information_schema.tables WHERE table_name = 'trials'", database)
        ends = "SELECT count(*) FROM trials WHERE state NOT IN ('RUNNING', 'WAITING')"
        return int(server.query(ends, database)[0][0]) if there else 0

    def going_on() -> bool:
        return any(one.process.poll() is None for one in searches)

    for host in (0, 1):
        said[host].parent.mkdir()
    searches = [start(0), start(1)]
    everyone = list(searches)
    victims = ["child"] * 9 + ["supervisor"] * 3
    chance.shuffle(victims)
    with ended(everyone):
        for place, victim in enumerate([*victims[:6], "server", *victims[6:]]):
            until(lambda place=place: finished() >= 3 + 5 * place, going_on, said[0])
            host = chance.randrange(2)
            match victim:
                case "child":
                    searches[host].kill_a_child(chance)
                case "supervisor":
                    searches[host].kill()
                    searches[host] = start(host)
                    everyone.append(searches[host])
                case "server":
                    for one in searches:
                        one.until(lambda one=one: one.children())
                    server.stop()
                    for one in searches:
                        one.until(lambda one=one: "Waiting(" in one.said.read_text())
                    searches[host].kill_a_child(chance)
                    server.start()
        for one in searches:
            one.finish()

    ledger = read(folders[0], url)
    check_sound(ledger, TRIALS, *folders)
    assert Counter(trial.state.name for trial in ledger.trials)["FAIL"] == 0
    owners = Counter(trial.user_attrs["owner"] for trial in ledger.trials[:TRIALS])
    assert len(owners) >= 2, "of the five supervisors some may be killed before they finish a trial"
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) > TRIALS
    for path in kept:
        text = path.read_bytes().decode(errors="replace")
        assert servers.PASSWORD not in text, path
        assert servers.QUOTED not in text, path
    assert safe_url(url) in said[0].read_text()


def test_no_child_has_the_storages_password_in_its_environment(
    server: servers.Postgres, shared_tiny: Path, tmp_path: Path
) -> None:
    url = server.new_database()
    env = {"TINY_URL": "", "FKPSEARCH_STORAGE": url, "PGPASSWORD": servers.PASSWORD}
    one = Search(tmp_path / "said", env, folder=tmp_path / "study", data=shared_tiny, trials=3, workers=2, epoch=1)
    with ended(one):
        one.until(one.children)
        environment = one.children()[0].environ()
        one.kill(signal.SIGTERM)
    assert "TINY_FINGERPRINT" in environment
    assert not [name for name, value in environment.items() if servers.PASSWORD in value or servers.QUOTED in value]
