"""Kafka by librdkafka's own mock brokers: every message once, from where a checkpoint stood."""

from __future__ import annotations

import json

import pytest

from event_streams import SCHEMA, assert_resumes, assert_same, lines, read_all, rows
from prunus.data.event_kafka import KafkaSource
from prunus.data.event_lines import JsonLinesSource
from prunus.data.event_opening import open_events
from prunus.data.event_order import Ordered
from prunus.data.event_rejects import Rejects
from prunus.errors import DataError, EventError, SilentSourceError

kafka = pytest.importorskip("confluent_kafka")


class Topic:
    """A topic on brokers that live in this process."""

    def __init__(self):
        self.producer = kafka.Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 2})
        (broker,) = self.producer.list_topics(timeout=10).brokers.values()
        self.brokers = f"{broker.host}:{broker.port}"

    def write(self, values, topic="clicks", partition=0):
        """Write messages; one a line of JSON, or None."""
        for value in values:
            self.producer.produce(topic, value=value, partition=partition)
        assert self.producer.flush(10) == 0

    def source(self, topic="clicks", **options):
        """Make a source of what is there, setting aside what is bad."""
        # Brokers that wait for more before they answer make tests slow.
        options = {"follow": False, "rejects": Rejects("set-aside"), "options": {"fetch.wait.max.ms": 10}} | options
        return KafkaSource(self.brokers, topic, SCHEMA, **options)


@pytest.fixture(scope="module")
def topic():
    """Give one mock cluster to all tests; each writes topics of its own."""
    return Topic()


def messages(records):
    """Write each record as a message."""
    return lines(records).splitlines()


def test_messages_are_events_and_any_split_goes_on(topic, tmp_path):
    """From one partition, amid bad messages and tombstones, a new source goes on bit by bit, as from a file of lines."""
    records = rows(40)
    records[7]["clicks"] = None
    bad = [b"{", None, json.dumps(records[0] | {"age": "x"}).encode()]
    topic.write([*messages(records[:20]), *bad, *messages(records[20:])], "one")
    batches = assert_resumes(lambda: topic.source("one"), 9)
    (tmp_path / "t.jsonl").write_bytes(lines([one for one in records if one["clicks"] is not None]))
    for batch, place in zip(batches, range(0, 39, 9), strict=True):
        expected = JsonLinesSource(tmp_path / "t.jsonl", SCHEMA)
        if place:
            expected.read(place)
        assert_same(batch, expected.read(9))
    source = topic.source("one")
    read_all(source)
    assert source.rejects.counts == {"bad_label": 1, "bad_json": 2, "bad_type": 1}
    assert source.position()["offsets"]["0"] == 43


def test_several_partitions_lose_and_repeat_nothing(topic):
    """Read, stopped anywhere and resumed, three partitions give each message once, each partition in its order."""
    records = rows(60)
    for partition in range(3):
        topic.write(messages(records[partition::3]), "three", partition)
    first = topic.source("three")
    parts = [first.read(25)]
    second = topic.source("three")
    second.seek(json.loads(json.dumps(first.position())))
    parts.append(read_all(second))
    times = [time for part in parts for time in part.time.tolist()]
    assert sorted(times) == [one["ms"] for one in records]
    for partition in range(3):
        of_partition = [one["ms"] for one in records[partition::3]]
        assert [time for time in times if time in of_partition] == of_partition
    # Put in order by time, the streams are one, whatever came first.
    ordered = Ordered(topic.source("three"), tolerance=1000)
    assert read_all(ordered).time.tolist() == [one["ms"] for one in records]


def test_a_follower_waits_and_goes_on(topic):
    """A follower gives what is there, nothing while nothing comes, and then what came; the latest may be the start."""
    records = rows(12)
    topic.write(messages(records[:5]), "live")
    source = topic.source("live", follow=True)
    late = topic.source("live", follow=True, start="latest")
    seen = []
    while len(seen) < 5:
        seen += source.read(3).time.tolist()
    assert len(source.read(3)) == 0
    point = source.position()
    topic.write(messages(records[5:]), "live")
    while len(seen) < 12:
        seen += source.read(100).time.tolist()
    assert seen == [one["ms"] for one in records]
    again = topic.source("live")
    again.seek(point)
    assert read_all(again).time.tolist() == seen[5:]
    of_late = []
    while len(of_late) < 7:
        of_late += late.read(100).time.tolist()
    assert of_late == seen[5:]


def test_offsets_are_committed_with_a_checkpoint_only(topic):
    """Reading commits nothing; commit tells the group the offsets of a position, not of what was read since."""
    topic.write(messages(rows(20)), "account")
    source = topic.source("account", group="of-account")
    asking = kafka.Consumer({"bootstrap.servers": topic.brokers, "group.id": "of-account"})

    def committed():
        return asking.committed([kafka.TopicPartition("account", 0)], timeout=10)[0].offset

    source.read(6)
    point = source.position()
    source.read(6)
    assert committed() < 0
    Ordered(source).commit(point)
    assert committed() == 6
    asking.close()
    by_name = open_events(f"kafka://{topic.brokers}/account?group=other&start=earliest", SCHEMA)
    assert len(read_all(by_name)) == 20


def test_what_is_refused(topic):
    """A topic that is not there, brokers that do not answer, offsets that are gone, and bad messages are named errors."""
    topic.write([*messages(rows(3)), b"no"], "small")
    with pytest.raises(DataError, match=r"'absent'.*Unknown topic"):
        topic.source("absent")
    with pytest.raises(DataError, match="start='newest'"):
        topic.source("small", start="newest")
    source = topic.source("small")
    for offsets in ({"0": 9}, {"77": 0}):
        with pytest.raises(DataError, match="messages were lost"):
            source.seek({"offsets": offsets})
    with pytest.raises(EventError, match="not a JSON object"):
        read_all(topic.source("small", rejects=None))


def test_brokers_that_go_away_are_waited_for_but_not_for_ever(tmp_path):
    """Who follows is told once, and once that they are back; who does not gets a named error after a while."""
    said = []
    topic = Topic()
    topic.write(messages(rows(3)), "gone")
    follower = topic.source("gone", follow=True, say=said.append)
    once = topic.source("gone", patience_s=0.5, say=said.append)
    del topic.producer
    # Anew, so that nothing is there that was fetched ahead.
    follower._assign({0: 0})
    once._assign({0: 0})
    while not said:
        assert len(follower.read(3)) == 0
    assert len(follower.read(3)) == 0
    assert said == [f"topic 'gone' at {topic.brokers}: no broker answers; waiting until the brokers come back"]
    with pytest.raises(SilentSourceError, match=r"no word for \d s, and partitions 0 are not at their end"):
        once.read(3)
    assert len(said) == 2
    assert said[1].endswith("come back, 0 s at most")
    follower._is_back()
    assert said[2:] == ["topic 'gone': the brokers answer again"]


@pytest.mark.long
def test_brokers_that_do_not_answer():
    """Where nobody listens, the error comes after some seconds and says where."""
    with pytest.raises(DataError, match=r"'clicks' at 127\.0\.0\.1:1"):
        KafkaSource("127.0.0.1:1", "clicks", SCHEMA)
