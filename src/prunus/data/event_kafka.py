"""Events from a Kafka topic."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

from prunus.data.event_lines import MAX_LINE_BYTES, JsonSource
from prunus.errors import DataError, SilentSourceError
from prunus.extras import need

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prunus.data.event_intake import Chunk
    from prunus.data.event_rejects import Rejects
    from prunus.data.events import EventSchema

Start = Literal["earliest", "latest"]
_MANY = 2000
_WAIT_SECONDS = 0.2
_ANSWER_SECONDS = 10.0


class KafkaSource(JsonSource):
    """Events from the messages of a topic, each a JSON object.

    The offsets live in :meth:`position`, hence in the checkpoint beside the model, and partitions are assigned by hand: the
    group takes no part in who reads what. So each message shapes the model that is kept exactly once, whatever dies when.
    What a run did after its last checkpoint is lost with it and read again: whatever else it told the world (predictions,
    logs) it tells at least once. :meth:`commit` tells the group how far a checkpoint reached, for monitors alone.

    Messages of one partition come in their order, those of several as they arrive: from a topic of one partition a
    resumed run goes on bit by bit, from several with the same messages in an order that may differ. Partitions that are
    added while it runs are read from the next start on.

    Args:
        brokers: addresses of the first brokers to ask, ``"host:port,host:port"``.
        topic: the topic.
        schema: what each field of a message is.
        group: the name under which offsets are committed.
        start: where to begin without a position: with the earliest message kept, or after the latest.
        follow: whether to wait for more messages; else the source ends with the messages that are there.
        patience_s: seconds without a word from the brokers after which a source that does not follow gives up. One that
            follows waits for ever.
        say: is told in a sentence that brokers are waited for, and that they are back.
        options: more settings of librdkafka, such as ``{"security.protocol": "SASL_SSL"}``.
        rejects: what becomes of messages that are no events; None refuses them with an error.

    Raises:
        SilentSourceError: from :meth:`read`, the brokers fell silent.
        DataError: the brokers do not answer, there is no such topic, or ``start`` is unknown.
        MissingExtraError: confluent-kafka is not installed.
    """

    def __init__(
        self,
        brokers: str,
        topic: str,
        schema: EventSchema,
        *,
        group: str = "prunus",
        start: Start = "earliest",
        follow: bool = True,
        patience_s: float = 60.0,
        say: Callable[[str], None] = lambda _: None,
        options: Mapping[str, str | int] | None = None,
        rejects: Rejects | None = None,
    ) -> None:
        super().__init__(schema, rejects)
        if start not in get_args(Start):
            msg = f"got start={start!r}; expected one of {', '.join(get_args(Start))}"
            raise DataError(msg)
        self._kafka = need("confluent_kafka", extra="stream")
        self.topic, self.follow, self._brokers = topic, follow, brokers
        self._patience_s, self._say, self._told = patience_s, say, False
        down = self._kafka.KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - its public name
        # Not a method: librdkafka would hold the source, which then is never closed.
        self._down: list[str] = []
        heard = self._down.append
        settings = {
            "bootstrap.servers": brokers,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # A position that the topic no longer holds is lost data, which must not pass in silence.
            "auto.offset.reset": "error",
            # What goes wrong is told by errors; this is a library's talk on stderr.
            "log_level": 2,
            # In our own words: librdkafka says "0/2 brokers are down" where it has not tried them all.
            "error_cb": lambda error: heard("no broker answers") if error.code() == down else None,
        }
        self._consumer = self._kafka.Consumer(settings | dict(options or {}))
        weakref.finalize(self, self._consumer.close)
        ends = self._bounds()
        self._assign({partition: bounds[start == "latest"] for partition, bounds in ends.items()})

    def seek(self, position: Mapping[str, Any]) -> None:
        """Stand where a source of the same topic stood; see :meth:`EventSource.seek`.

        Partitions that are new since then are read from their first message.
        """
        self._forget()
        bounds = self._bounds()
        offsets = {partition: low for partition, (low, _) in bounds.items()}
        for name, offset in position["offsets"].items():
            low, high = bounds.get(int(name), (0, -1))
            if not low <= offset <= high:
                msg = (
                    f"topic {self.topic!r}: partition {name} holds offsets {low} to {high}; expected {offset}, where the"
                    " stream stopped: messages were lost, so start anew or from another position"
                )
                raise DataError(msg)
            offsets[int(name)] = offset
        self._assign(offsets)

    def commit(self, position: Mapping[str, Any]) -> None:
        """Tell the group how far a checkpoint reached.

        Args:
            position: the position that the checkpoint holds.

        Raises:
            DataError: the brokers do not take it.
        """
        offsets = [self._kafka.TopicPartition(self.topic, int(name), at) for name, at in position["offsets"].items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except self._kafka.KafkaException as error:
            self._fail(error)

    def _bounds(self) -> dict[int, tuple[int, int]]:
        """Give the first offset kept of each partition, and the one after its last."""
        try:
            found = self._consumer.list_topics(self.topic, timeout=_ANSWER_SECONDS).topics[self.topic]
            bounds = {
                number: self._consumer.get_watermark_offsets(
                    self._kafka.TopicPartition(self.topic, number), timeout=_ANSWER_SECONDS
                )
                for number in found.partitions
            }
        except self._kafka.KafkaException as error:
            self._fail(error)
        if found.error is not None:
            self._fail(self._kafka.KafkaException(found.error))
        return bounds

    def _assign(self, offsets: dict[int, int]) -> None:
        self._offsets = offsets
        self._open = set(offsets)
        self._consumer.assign([self._kafka.TopicPartition(self.topic, number, at) for number, at in offsets.items()])

    def _start(self) -> dict[str, Any]:
        return {"offsets": {str(number): offset for number, offset in self._offsets.items()}}

    def _next_chunk(self) -> Chunk | None:
        since = time.monotonic()
        while self.follow or self._open:
            # Polling waits for one message, and what has come with it is there at once.
            first = self._consumer.poll(_WAIT_SECONDS)
            messages = [first, *self._consumer.consume(_MANY, 0)] if first is not None else []
            taken = [message for message in messages if self._is_event(message)]
            if messages:
                since = time.monotonic()
            if taken:
                self._is_back()
                return self._chunk_of_messages(taken)
            self._wait(0.0 if self.follow else time.monotonic() - since)
            if self.follow:
                return self._nothing()
        return None

    def _wait(self, silent_s: float) -> None:
        """Say once that brokers are waited for, and give up after a while.

        Raises:
            SilentSourceError: they have been silent for longer than they are waited for.
        """
        if not self._told and (self._down or silent_s >= self._patience_s / 10):
            self._told = True
            why = self._down[-1] if self._down else f"no word for {silent_s:.0f} s"
            until = "come back" if self.follow else f"come back, {self._patience_s:.0f} s at most"
            self._say(f"topic {self.topic!r} at {self._brokers}: {why}; waiting until the brokers {until}")
        if silent_s >= self._patience_s:
            msg = (
                f"topic {self.topic!r} at {self._brokers}: no word for {silent_s:.0f} s, and partitions"
                f" {', '.join(map(str, sorted(self._open)))} are not at their end; expected brokers that answer: run the"
                " same command again when they do, it goes on"
            )
            raise SilentSourceError(msg)

    def _is_back(self) -> None:
        self._down.clear()
        if self._told:
            self._told = False
            self._say(f"topic {self.topic!r}: the brokers answer again")

    def _chunk_of_messages(self, messages: list[Any]) -> Chunk:
        first = dict(self._offsets)
        places = [(message.partition(), message.offset()) for message in messages]
        self._offsets = first | {partition: offset + 1 for partition, offset in places}

        def position(row: int) -> dict[str, Any]:
            offsets = first | {partition: offset + 1 for partition, offset in places[:row]}
            return {"offsets": {str(partition): offset for partition, offset in offsets.items()}}

        texts = [message.value() or b"" for message in messages]
        return self._chunk_of([text if len(text) <= MAX_LINE_BYTES else None for text in texts], position)

    def _is_event(self, message: Any) -> bool:  # noqa: ANN401 - confluent_kafka's type is not there without it
        """Tell a message from news about a partition."""
        error = message.error()
        if error is None:
            return True
        if error.code() == self._kafka.KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            self._open.discard(message.partition())
        elif not error.retriable() and error.code() != self._kafka.KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - same
            self._fail(self._kafka.KafkaException(error))
        return False

    def _fail(self, error: Any) -> NoReturn:  # noqa: ANN401 - same
        msg = (
            f"topic {self.topic!r} at {self._brokers}: {error.args[0].str()}; expected brokers that answer, the topic, and"
            " the right to read it"
        )
        raise DataError(msg) from error
