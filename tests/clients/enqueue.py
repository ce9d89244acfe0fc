"""Enqueues with redis-py alone, in the two ways that docs/protocol.md names: enqueue.py URL"""

import json
import sys

import redis

PREFIX = "workyard:{q}:"
SHARED = (
    "cfg state tasks meta pending scheduled failed results done waiters parked consumers stats minutes expiring"
).split()


def fcall(client, name, own, *arguments):
    """Calls a function of the protocol on queue q."""
    keys = [PREFIX + key for key in [*SHARED, *own]]
    return client.fcall(f"workyard_1_{name}", len(keys), *keys, *arguments)


def main():
    client = redis.Redis.from_url(sys.argv[1])
    envelope = {"kind": "echo", "id": "py-inbox", "payload": {"n": [1, 2.5, None]}, "priority": 1}
    client.rpush(PREFIX + "inbox", json.dumps(envelope), "{not json", b"\xff\xfe")

    # With a producer session and a batch number: a repeat after a lost reply adds nothing.
    for _ in range(2):
        reply = fcall(client, "enqueue", ["producer:py"], "1", "", "", "py-fcall", "echo priority=1", '"two"')
        assert reply == [b"c"], reply
    made = fcall(client, "enqueue", [], "", "", "", "", 'echo\n{"headers":{"a":"b"}}', "[]")
    assert made[0] == b"c" and len(made[1]) == 36, made
    bad = fcall(client, "enqueue", [], "", "", "", "py-malformed", "echo", "{nope")
    assert bad == [b"c"], bad
    try:
        fcall(client, "enqueue", [], "", "", "", "x", "echo priority=900", "1")
    except redis.ResponseError as error:
        assert "priority must be a number from 0 to 255" in str(error), error
    else:
        raise AssertionError("a priority of 900 was accepted")
    print(made[1].decode())


if __name__ == "__main__":
    main()
