"""``onpace listen``: print what a publisher sends, and shout about what did not arrive."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pipeline import clock
from pipeline.cli import exit_codes
from pipeline.cli.output import printable
from pipeline.cli.process import sigterm_as_interrupt
from pipeline.config.values import parse_duration
from pipeline.errors import ConfigError
from pipeline.publish.curve import SubscriberKeys
from pipeline.publish.messages import DetectionsMessage, StatusMessage
from pipeline.subscriber import Event, Gap, PublisherEnded, PublisherGone, PublisherRestarted, Subscriber

Printer = Callable[[Event], str | None]

_POLL_SECONDS = 0.5
_MOST_OBJECTS_A_LINE = 8


def listen(
    endpoint: Annotated[
        str, typer.Argument(metavar="ENDPOINT", help="Where a pipeline publishes: tcp://HOST:PORT or ipc://PATH.")
    ],
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; may be repeated.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many detections messages.")] = None,
    duration: Annotated[str | None, typer.Option("--for", help='End after so long: "10s", "5m".')] = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="Your own .key_secret file, for a publisher that asks who connects.")
    ] = None,
    publisher_key: Annotated[Path | None, typer.Option(help="The publisher's .key file, beside --keys.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines, the last one a summary.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Print status messages too.")] = False,
) -> int:
    """Print the messages of a running pipeline, and every gap in them.

    Ends when all streams have ended, after --count or --for, or with Ctrl-C, and prints what each stream received and
    lost. Exit codes: 0 done, 1 the publisher speaks another schema version, 2 bad endpoint or option.

    [bold]Example:[/bold] onpace listen tcp://127.0.0.1:5555 --stream lobby --for 10s
    """
    until = None if duration is None else clock.monotonic() + _seconds(duration)
    listener = _Listener(_json_printer(status) if json else _text_printer(status), count, until)
    pair = subscriber_keys(keys, publisher_key)
    with Subscriber(endpoint.removeprefix("zmq:"), streams=stream, keys=pair) as subscriber:
        print(f"listening to {endpoint}", file=sys.stderr)
        reason = listener.run(subscriber)
        summary = listener.summary(subscriber, endpoint, reason)
    _print_last(msgspec.json.encode(summary).decode() if json else _summary_text(summary))
    return exit_codes.DONE


def subscriber_keys(own: Path | None, publisher: Path | None) -> SubscriberKeys | None:
    """Return the keys that two options name together. Raises ConfigError where one of them is missing."""
    if own is None and publisher is None:
        return None
    if own is None or publisher is None:
        raise ConfigError("--keys and --publisher-key belong together: your .key_secret, the publisher's .key.")
    return SubscriberKeys.load(own, publisher)


class _Listener:
    """Prints events until there is a reason to stop."""

    def __init__(self, printer: Printer, count: int | None, until: float | None) -> None:
        self._printer = printer
        self._count = count
        self._until = until
        self._started = clock.monotonic()
        self._received = 0
        self._restarts = 0
        self._gone = 0

    def run(self, subscriber: Subscriber) -> str:
        try:
            with sigterm_as_interrupt():
                return self._listen(subscriber)
        except KeyboardInterrupt:
            return "interrupted"
        except BrokenPipeError:
            return "output closed"

    def summary(self, subscriber: Subscriber, endpoint: str, reason: str) -> dict[str, Any]:
        """The documented keys of ``--json``; ``docs/messages.md`` explains them."""
        counts = subscriber.counts
        return {
            "kind": "summary",
            "endpoint": endpoint,
            "reason": reason,
            "seconds": round(clock.monotonic() - self._started, 3),
            "received": sum(one.received for one in counts.values()),
            "gaps": sum(one.gaps for one in counts.values()),
            "lost": sum(one.lost for one in counts.values()),
            "malformed": subscriber.malformed,
            "publisher_restarts": self._restarts,
            "publisher_gone": self._gone,
            "streams": {
                stream_id: {
                    "received": one.received,
                    "statuses": one.statuses,
                    "gaps": one.gaps,
                    "lost": one.lost,
                    "last_sequence": one.last_sequence,
                }
                for stream_id, one in sorted(counts.items())
            },
        }

    def _listen(self, subscriber: Subscriber) -> str:
        while True:
            left = _POLL_SECONDS if self._until is None else self._until - clock.monotonic()
            if left <= 0:
                return "time over"
            event = subscriber.receive(min(left, _POLL_SECONDS))
            if event is None:
                continue
            line = self._printer(event)
            if line is not None:
                print(line, flush=True)
            if self._is_last(event):
                return "ended" if isinstance(event, PublisherEnded) else "count reached"

    def _is_last(self, event: Event) -> bool:
        self._restarts += isinstance(event, PublisherRestarted)
        self._gone += isinstance(event, PublisherGone)
        self._received += isinstance(event, DetectionsMessage)
        return isinstance(event, PublisherEnded) or self._received == self._count


def _text_printer(statuses: bool) -> Printer:
    def text(event: Event) -> str | None:
        if isinstance(event, DetectionsMessage):
            age = f"age {event.age_seconds * 1000:.0f} ms"
            return printable(f"{event.stream_id}  frame {event.frame_index}  {age}  {_objects(event)}")
        if isinstance(event, StatusMessage):
            return printable(_status_text(event)) if statuses else None
        return printable(_notice_text(event))

    return text


def _json_printer(statuses: bool) -> Printer:
    encode = msgspec.json.Encoder().encode

    def line(event: Event) -> str | None:
        if isinstance(event, DetectionsMessage | StatusMessage):
            return encode(event).decode() if statuses or isinstance(event, DetectionsMessage) else None
        kinds = {
            Gap: "gap",
            PublisherGone: "publisher_gone",
            PublisherEnded: "publisher_ended",
            PublisherRestarted: "publisher_restarted",
        }
        return encode({"kind": kinds[type(event)], **event._asdict()}).decode()

    return line


def _objects(message: DetectionsMessage) -> str:
    shown = [
        f"{one.class_name}{'' if one.track_id is None else f'#{one.track_id}'} {one.score:.2f}"
        for one in message.objects[:_MOST_OBJECTS_A_LINE]
    ]
    more = len(message.objects) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "nothing"


def _status_text(status: StatusMessage) -> str:
    dropped = sum(sum(reasons.values()) for reasons in status.dropped.values())
    rate = "" if status.published_fps is None else f"  {status.published_fps:.1f} fps"
    why = "".join(f"  {reason}" for reason in (status.cause, status.last_error) if reason)
    return (
        f"{status.stream_id}  {status.verdict}{rate}  received {status.received}  published {status.published}  "
        f"dropped {dropped}  in flight {status.in_flight}{why}"
    )


def _notice_text(event: Gap | PublisherGone | PublisherEnded | PublisherRestarted) -> str:
    if isinstance(event, Gap):
        missing = f"{event.first_missing}-{event.last_missing}"
        return f"*** GAP {event.stream_id}: lost {event.lost} messages, sequence {missing}"
    if isinstance(event, PublisherGone):
        streams = ", ".join(event.stream_ids)
        return f"*** PUBLISHER GONE: nothing for {event.silent_seconds:.1f} s ({streams}); still waiting"
    if isinstance(event, PublisherRestarted):
        return f"*** PUBLISHER RESTARTED: {event.previous} is now {event.publisher}"
    return "all streams have ended"


def _summary_text(summary: dict[str, Any]) -> str:
    lines = [f"{summary['reason']} after {summary['seconds']:.1f} s"]
    for stream_id, one in summary["streams"].items():
        lines.append(f"{stream_id}: received {one['received']}, gaps {one['gaps']}, lost {one['lost']}")
    if not summary["streams"]:
        lines.append("nothing received: is a pipeline publishing there?")
    if summary["malformed"]:
        lines.append(f"{summary['malformed']} messages could not be read")
    return "\n".join(printable(line) for line in lines)


def _print_last(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes once more at exit, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _seconds(duration: str) -> float:
    try:
        return parse_duration(duration)
    except ValueError as error:
        raise ConfigError(f"--for '{duration}': {error}.") from error
