#!/usr/bin/env python3
"""A Workyard worker in Python, without dependencies.

The daemon starts this program, writes one task per line to its standard input, and reads one answer
per line from its standard output (docs/workers.md describes the lines). To make it yours, write a
function and register it for a kind:

    @kind("greet")
    def greet(payload, task):
        return {"greeting": "Hello, " + payload["name"]}

- What the function returns (anything that JSON can hold) is the task's result.
- `raise Retry("why", after=30)` fails the attempt; the next one is due in 30 seconds. Without
  `after`, and for every other exception, the task's own backoff decides.
- `raise Fail("why")` fails the task for good: no attempt can help.
- `task` holds id, kind, queue, attempt, token (the fencing token), deadline_ms and headers.
- As a function of a map-reduce job it gets a list and returns the list of what it emits; `task` then holds
  stage (map, combine or reduce), form (fold or keyed) and args as well. See `split_words` and `total`.
- `print` goes to standard error and so to the daemon's log, since standard output belongs to the
  protocol.

A cancelled task, or one out of time, ends the process with SIGTERM. It arrives as the exception
`Stopped` in whatever is running, so `finally` blocks and `with` statements clean up.
"""

import hashlib
import json
import os
import signal
import sys
import time
import traceback

KINDS = {}


class Retry(Exception):
    """The attempt failed; another one may help, after `after` seconds if given."""

    def __init__(self, reason, after=None):
        super().__init__(reason)
        self.after = after


class Fail(Exception):
    """The task failed for good."""


class Stopped(BaseException):
    """The daemon wants this process to end. Not an `Exception`, so that no handler swallows it."""


def kind(name):
    """Registers a function for tasks of the kind `name`."""

    def register(function):
        KINDS[name] = function
        return function

    return register


# --- the work -------------------------------------------------------------------------------------


@kind("greet")
def greet(payload, task):
    return {"greeting": "Hello, " + payload["name"], "attempt": task["attempt"]}


@kind("sum")
def sum_numbers(payload, task):
    if not all(isinstance(number, (int, float)) for number in payload):
        raise Fail("the payload must be a list of numbers")
    return sum(payload)


@kind("sha256")
def sha256(payload, task):
    with open(payload["path"], "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


@kind("pause")
def pause(payload, task):
    print("pausing for", payload["seconds"], "seconds")
    try:
        time.sleep(payload["seconds"])
    finally:
        # Runs after SIGTERM as well.
        print("the pause is over")


@kind("split-words")
def split_words(lines, task):
    """A mapper of the keyed form: from lines of text to pairs [word, 1]."""
    shortest = task["args"].get("shortest", 1)
    return [[word, 1] for line in lines for word in line.lower().split() if len(word) >= shortest]


@kind("total")
def total(values, task):
    """A reducer: of [key, values] in the keyed form, where it can combine too, else of values."""
    if task["form"] == "keyed":
        return [[key, sum(numbers)] for key, numbers in values]
    return [sum(values)]


# --- the protocol ---------------------------------------------------------------------------------


def answer_to(task):
    """Runs the function for the task's kind; returns the answer for the daemon."""
    answer = {"type": "error", "id": task["id"], "token": task["token"]}
    try:
        function = KINDS.get(task["kind"])
        if function is None:
            raise Fail("this worker has no function for kind " + task["kind"])
        result = function(task["payload"], task)
        # Dumped here, where an unfit result (an object, NaN) is the function's error.
        json.dumps(result, allow_nan=False)
        return {"type": "result", "id": task["id"], "token": task["token"], "result": result}
    except Retry as error:
        answer["error"] = str(error)
        if error.after is not None:
            answer["retry_after_ms"] = int(error.after * 1000)
    except Fail as error:
        answer.update(error=str(error), retry=False)
    except Exception as error:
        traceback.print_exc()  # to the log; the task keeps the short form
        answer["error"] = f"{type(error).__name__}: {error}"
    return answer


def serve(tasks, answers):
    """Answers one task after another until the daemon closes the input."""

    def say(message):
        # One write, flushed at once: the daemon waits for this line. ASCII only, hence no
        # surprise about encodings, and no line breaks within the line.
        answers.write(json.dumps(message).encode("ascii") + b"\n")
        answers.flush()

    say({"type": "ready"})
    for line in tasks:
        message = json.loads(line)
        if message.get("type") == "task":  # other types are for later versions
            say(answer_to(message))


def stop(signum, frame):
    # Once: a second SIGTERM must not interrupt the cleaning up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped()


def main():
    # Keep standard output for the protocol, and let everything else that writes there (`print`, a
    # library, a child process) write to standard error.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    signal.signal(signal.SIGTERM, stop)
    try:
        serve(sys.stdin.buffer, answers)
    except Stopped:
        pass


if __name__ == "__main__":
    main()
