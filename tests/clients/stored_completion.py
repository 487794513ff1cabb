"""A plugin of pytest: openai-python's tests ask for a stored completion called `completion_id`, and delete it; so before each
test there is one, asked for through the API and renamed in the database."""

import json
import os
import sqlite3
import time
import urllib.request

import pytest

NAME = "completion_id"
SECONDS = 10


def ask():
    body = {"store": True, "max_tokens": 4, "messages": [{"role": "assistant", "content": "x"}]}
    request = urllib.request.Request(
        os.environ["TEST_API_BASE_URL"] + "/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["id"]


@pytest.fixture(autouse=True)
def stored():
    database = sqlite3.connect(os.environ["STORE"], timeout=SECONDS)
    if not database.execute("SELECT 1 FROM completion WHERE id = ?", (NAME,)).fetchone():
        made, until = ask(), time.monotonic() + SECONDS
        # It is written when the log's workers have released it.
        while not database.execute("UPDATE completion SET id = ? WHERE id = ?", (NAME, made)).rowcount:
            database.rollback()
            assert time.monotonic() < until, "the completion was not stored"
            time.sleep(0.005)
        database.commit()
    database.close()
    yield
