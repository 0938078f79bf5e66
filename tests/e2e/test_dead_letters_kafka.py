"""Dead letters on a real broker: seen from anywhere, sent again, and never in anybody's way."""

import asyncio
import json
import os

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner

from loghaul import config
from loghaul.chunk import Chunk, Mark, StreamKey, encode
from loghaul.transports.address import parse
from loghaul.transports.kafka import admin
from loghaul.transports.topic import read
from loghaul_ingest import group
from loghaul_ingest.cli import loghaul
from loghaul_ingest.dead_letters import DirectoryLetters
from loghaul_ingest.dead_letters.topic import TopicLetters
from loghaul_ingest.stores import open_reader
from loghaul_ingest.topics import LETTERS, Plan, letters_of, set_up

KEY = StreamKey("run", "a" * 32, "stdout")
GOOD = b"a line of a neighbour\n"


class Team:
    """A topic with its store, and the homes of a worker and of whoever looks after it."""

    def __init__(self, dsn, folder):
        self.dsn, self.address = dsn, parse(dsn)
        self.worker = self._home(folder / "worker", folder)
        self.person = self._home(folder / "person", folder)
        self.directory = DirectoryLetters(folder / "worker" / "dead-letters")

    def _home(self, home, folder):
        name = self.address.topic
        store = f"sqlite://{folder}/store"
        return config.load(home=home, transport=self.dsn, group=name, store=store)

    def set_up(self):
        asyncio.run(set_up(letters_of(self.address), Plan(), kind=LETTERS))

    def send(self, *records):
        async def work():
            async with AIOKafkaProducer(
                bootstrap_servers=self.address.servers, max_request_size=2**25
            ) as producer:
                for value, headers in records:
                    await producer.send_and_wait(
                        self.address.topic, value, b"key", 0, headers=headers
                    )

        asyncio.run(work())

    def ingest(self):
        group.once(self.worker)

    def in_topic(self):
        async def look():
            letters = TopicLetters(self.address)
            try:
                return list(await letters.letters())
            finally:
                await letters.close()

        return asyncio.run(look())

    def in_directory(self):
        return list(asyncio.run(self.directory.letters()))

    def call(self, *args, code=0, home=None):
        environment = (home or self.person).environment()
        done = CliRunner().invoke(loghaul, ["dead-letters", *args], env=environment)
        assert done.exit_code == code, (done.output, done.exception)
        return done

    def list(self):
        return json.loads(self.call("list", "-o", "json").stdout)

    def text(self, run="run"):
        reader = open_reader(self.worker.store)
        try:
            found = b""
            for row in reader.streams(run):
                heads = [head.key for head in reader.heads(row.facts.stream)]
                found += b"".join(block.data for block in reader.load(heads))
            return found
        finally:
            reader.close()

    def log(self):
        return (self.worker.home / "worker" / "log").read_text()


@pytest.fixture
def team(kafka, tmp_path):
    return Team(kafka.dsn(partitions=1), tmp_path)


def good():
    chunk = Chunk(KEY, "text", 0, GOOD, (Mark(len(GOOD), 1_000_000),), 5, {"run.id": "run"})
    record = encode(chunk)
    return record.value, record.headers


@pytest.mark.timeout(180)
def test_f15_a_letter_of_a_worker_is_read_and_replayed_from_another_machine(team):
    team.set_up()
    team.send((b"\x00poison", [("from", b"a test")]), good(), (b"", []))
    team.ingest()

    first, second = team.list()
    assert team.text() == GOOD and team.in_directory() == []
    assert (first["place"], first["bytes"]) == (f"{team.address.topic}/0@0", 7)
    assert second["reason"] == "record is empty"
    assert first["where"].startswith(f"{letters_of(team.address)} offset ")
    assert team.call("show", first["id"][:8], "--raw").stdout_bytes == b"\x00poison"

    team.call("replay", "1", "--as", "plain", "--run", "mended")

    assert team.text("mended") == b"\x00poison\n"
    assert [row["name"] for row in team.list()] == [second["name"]]
    team.call("show", first["id"], code=3)
    assert team.call("replay", "--all", code=1).output.count("refused again") == 1
    (again,) = team.list()
    assert again["name"] != second["name"]


@pytest.mark.timeout(180)
def test_a_letter_says_in_its_headers_what_it_is(team):
    team.set_up()
    team.send((b"\x00poison", [("from", b"a test")]))
    team.ingest()

    async def raw():
        letters = TopicLetters(team.address)
        try:
            await letters._open_reader()
            return [record async for record in letters._records()]
        finally:
            await letters.close()

    (record,) = asyncio.run(raw())
    said = {name: value.decode() for name, value in record.headers}
    assert record.value == b"\x00poison"
    assert said["place"] == f"{team.address.topic}/0@0" and "neither text" in said["reason"]
    assert said["time"].endswith("+00:00") and ":" in said["worker"]
    assert json.loads(said["about"])["headers"] == {"from": "a test"}


@pytest.mark.timeout(180)
def test_without_their_topic_letters_are_kept_in_the_home_and_that_is_said(team):
    team.send((b"\x00poison", []), good())

    team.ingest()

    assert team.text() == GOOD
    assert [letter.place for letter in team.in_directory()] == [f"{team.address.topic}/0@0"]
    assert "dead letters are kept in the directory" in team.log()
    assert "create it with `loghaul setup`" in team.log()
    elsewhere = team.call("list", "-o", "json", code=1)
    there = team.call("list", "-o", "json", code=1, home=team.worker)
    assert [len(json.loads(one.stdout)) for one in (elsewhere, there)] == [0, 1]
    assert "create it with `loghaul setup`" in elsewhere.stderr


@pytest.mark.timeout(180)
def test_a_letter_that_is_too_large_for_the_topic_is_kept_in_the_home(team, kafka):
    team.set_up()
    kafka.alter(str(letters_of(team.address)), max_message_bytes=1000)
    noise = b"\x00" + os.urandom(4000)
    team.send((noise, []), (b"\x00small", []), good())

    team.ingest()

    assert team.text() == GOOD
    (large,) = team.in_directory()
    assert team.directory.path(large).read_bytes() == noise
    assert [row["bytes"] for row in team.list()] == [6]
    assert "takes no record of 4001 bytes" in team.log()


@pytest.mark.timeout(180)
def test_a_topic_that_would_lose_letters_is_not_used(team, kafka):
    team.set_up()
    kafka.alter(str(letters_of(team.address)), unclean_leader_election_enable="true")
    team.send((b"\x00poison", []))

    team.ingest()

    assert len(team.in_directory()) == 1 and team.in_topic() == []
    assert "is not safe" in team.log()


@pytest.mark.timeout(180)
def test_setup_makes_both_topics_and_checks_them(kafka, tmp_path):
    dsn = kafka.dsn(partitions=1)
    environment = config.load(home=tmp_path, transport=dsn).environment()

    def setup(*args):
        return CliRunner().invoke(loghaul, ["setup", *args], env=environment)

    missing = setup("--check")
    made, again, checked = setup(), setup(), setup("--check")
    kafka.alter(f"{dsn}-dead-letters", retention_ms=1000)
    drifted = setup("--check")

    assert missing.exit_code == 1 and "for dead letters" in missing.output
    assert "1 partitions, 1 replicas, 90 days" in made.output
    assert [made.exit_code, again.exit_code, checked.exit_code] == [0, 0, 0]
    assert again.output.count("ready") == 2
    assert drifted.exit_code == 1 and "retention.ms is 1000" in drifted.output

    async def settings():
        async with admin(parse(dsn)) as client:
            return (await read(client, f"{parse(dsn).topic}-dead-letters")).own

    assert asyncio.run(settings())["cleanup.policy"] == "compact,delete"


@pytest.mark.timeout(240)
def test_letters_outlive_a_broker_that_is_away_and_those_of_the_home_are_shown(
    fragile_kafka, tmp_path
):
    broker = fragile_kafka()
    team = Team(broker.dsn(partitions=1), tmp_path)
    team.set_up()
    team.send((b"\x00poison", []))
    team.ingest()
    assert len(team.list()) == 1
    broker.kill()

    done = team.call("list", "-o", "json", code=1)

    assert json.loads(done.stdout) == []
    assert "without the dead letters of the topic" in done.stderr
    broker.start()
    assert [letter.about["bytes"] for letter in team.in_topic()] == [7]


def test_who_has_a_wrong_transport_is_told_so(tmp_path):
    settings = config.load(home=tmp_path, transport="kafka://nowhere.invalid/logs")

    done = CliRunner().invoke(loghaul, ["dead-letters", "list"], env=settings.environment())

    assert done.exit_code == 1 and "nowhere.invalid" in done.output
