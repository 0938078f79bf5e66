"""The shipper of a node: one at a time, for ever, and no longer than it is needed."""

import fcntl
import shutil
import threading

import pytest

from loghaul import config
from loghaul.errors import TransportError, TransportRefused
from loghaul.shipper import Busy
from loghaul.shipper.desk import Desk
from loghaul.shipper.room import make_room
from loghaul.spool import Limits
from loghaul.spool.budget import usage


def test_once_ships_what_is_there_and_ends(bench, shipper):
    bench.capture(parts=[b"one\n"])
    live = bench.capture("live", [b"two\n"], ended=False)
    one = shipper(once=True)
    one.main(0)
    assert bench.streams() == {"run/stdout": b"one\n", "live/stdout": b"two\n"}
    assert [path.name for path in bench.left()] == [live.id]
    assert one.counts.bytes > 8
    assert Desk(bench.root).heard()["records"] == one.counts.records


def test_two_shippers_never_serve_one_spool(bench, shipper):
    desk = Desk(bench.root)
    with desk.hold():
        assert Desk(bench.root).taken
        with pytest.raises(Busy, match="another shipper"):
            shipper(once=True).main(0)
    assert not Desk(bench.root).taken


def test_a_worker_that_still_reads_the_spool_is_waited_for(bench, shipper, tmp_path):
    bench.capture(parts=[b"one\n"])
    (tmp_path / "worker").mkdir()
    told = []
    with open(tmp_path / "worker" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def hear(**status):
            told.append((status["failing"], bench.topic.connections))
            if len(told) == 2:
                fcntl.flock(lock, fcntl.LOCK_UN)

        shipper(once=True, tell=hear).main(0)
    assert "still reads this spool" in told[0][0] and told[0][1] == 0
    assert bench.streams() == {"run/stdout": b"one\n"}


def test_what_only_a_person_can_mend_ends_a_shipper_in_the_foreground(bench, shipper):
    bench.capture(parts=[b"one\n"])
    bench.topic.refusal = TransportRefused("the password is wrong")
    with pytest.raises(TransportRefused, match="password"):
        shipper().main(0)
    status = Desk(bench.root).heard()
    assert (status["failing"], status["refused"]) == ("the password is wrong", True)
    assert len(bench.left()) == 1


def test_once_says_why_it_cannot(bench, shipper):
    bench.topic.refusal = TransportError("nobody answers")
    with pytest.raises(TransportError, match="nobody answers"):
        shipper(once=True).main(0)


def test_a_broker_that_is_away_is_waited_for(bench, shipper):
    bench.capture(parts=[b"one\n"])
    bench.topic.refusal = TransportError("nobody answers")
    told = []
    one = shipper(background=True, idle_seconds=0.3, tell=lambda **status: told.append(status))

    def come_back():
        while bench.topic.connections < 3:
            pass
        bench.topic.refusal = None

    threading.Thread(target=come_back, daemon=True).start()
    one.main(0)
    assert bench.streams() == {"run/stdout": b"one\n"}
    assert one.counts.retries >= 2
    assert [status["failing"] for status in told][-1] == ""
    assert "nobody answers" in [status["failing"] for status in told]


def test_in_the_background_it_ends_when_nobody_captures(bench, shipper):
    shipper(background=True, idle_seconds=0.2).main(0)
    assert bench.topic.connections == 1


def test_in_the_background_a_refusal_is_kept_trying_while_somebody_captures(bench, shipper):
    live = bench.capture(parts=[b"one\n"], ended=False)
    bench.topic.refusal = TransportRefused("the topic is not safe")
    one = shipper(background=True, idle_seconds=0.3)

    def mend():
        while bench.topic.connections < 2:
            pass
        bench.topic.refusal = None
        while not bench.counts.records and not any(bench.topic.records):
            pass
        live.end("exit", {})
        live.close()

    threading.Thread(target=mend, daemon=True).start()
    one.main(0)
    assert bench.streams() == {"run/stdout": b"one\n"}


def test_in_the_background_a_refusal_ends_it_when_nobody_captures(bench, shipper):
    bench.capture(parts=[b"one\n"])
    bench.topic.refusal = TransportRefused("the topic is not safe")
    shipper(background=True, idle_seconds=0.2).main(0)
    assert len(bench.left()) == 1


def test_a_shipper_gives_way_to_one_of_another_transport(bench, shipper):
    old = shipper("kafka://old/topic")
    thread = threading.Timer(
        0.2, lambda: shipper("kafka://new/topic", once=True)._desk.want("kafka://new/topic")
    )
    thread.start()
    old.main(0)
    thread.join()
    assert old._given_way


def test_a_spool_that_was_removed_and_made_anew_has_another_shipper(bench, shipper):
    one = shipper()
    thread = threading.Timer(0.2, lambda: shutil.rmtree(bench.root))
    thread.start()
    one.main(0)
    thread.join()


def test_a_full_spool_makes_room_for_new_lines_by_dropping_the_oldest(bench, shipper, tmp_path):
    limits = Limits(max_bytes=2**20, reserve_bytes=0)
    writer = bench.capture(ended=False, limits=limits)
    while writer.append(0, b"x" * 999 + b"\n", severity=50):
        """Until everything is refused."""
    notes = []
    settings = config.load(
        home=tmp_path, spool=bench.root, spool_max_bytes=2**20, spool_reserve_bytes=0
    )
    before = usage(bench.root)
    freed = make_room(settings, lambda event, **fields: notes.append((event, fields)))
    assert freed >= 0.1 * 2**20
    assert usage(bench.root) == before - freed
    assert notes
    assert make_room(settings, lambda event, **fields: None) == 0
    bench.capture("new", [b"y\n"], limits=limits)
    writer.close()
    bench.run()
    gaps = [gap for row in bench.chunks() for chunk in row for gap in chunk.gaps]
    assert any("dropped" in gap.reason for gap in gaps)


def test_a_user_who_chose_to_wait_loses_nothing(bench, tmp_path):
    settings = config.load(
        home=tmp_path, spool=bench.root, spool_max_bytes=1000, spool_full="block"
    )
    bench.capture(parts=[b"x" * 5000])
    assert make_room(settings, lambda event, **fields: None) == 0
