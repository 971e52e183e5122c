"""`flows keys` and `flows hash-password`: keys are shown once and kept as hashes."""

from werkzeug.security import check_password_hash

from celeryflows.console.keys import EVENT, Keyhole
from celeryflows.settings.doors import read_doors


def opens(terminal, key: str) -> bool:
    hole = Keyhole(lambda: terminal.app.flows.runtime, read_doors({}))
    return hole.opens(EVENT, key) is not None


def test_a_key_is_made_rotated_and_revoked(terminal):
    assert terminal("keys", "list").stdout == "no keys\n"
    done = terminal("keys", "create", "the shop")
    key = done.stdout.strip()
    assert key.startswith("flows_event_")
    assert opens(terminal, key)

    (listed,) = terminal.json("keys", "list")["keys"]
    assert (listed["name"], listed["kind"], listed["good"]) == ("the shop", "event", True)
    assert key not in str(listed)
    newer = terminal.json("keys", "rotate", listed["id"], "--overlap", "1h")
    assert opens(terminal, key)
    assert opens(terminal, newer["key"])

    assert "revoked" in terminal("keys", "revoke", listed["id"]).stdout
    assert not opens(terminal, key)
    assert opens(terminal, newer["key"])
    assert "was over already" in terminal("keys", "revoke", listed["id"]).stdout
    assert "over" in terminal("keys", "list").stdout
    with terminal.app.flows.runtime.store.connection() as connection:
        assert key not in str(connection.execute("SELECT * FROM flows_keys"))
        acts = connection.execute("SELECT action, outcome FROM flows_audit ORDER BY id")
    assert [action for action, _ in acts] == ["create key", "rotate key", "revoke key", "revoke key"]
    assert {outcome for _, outcome in acts} == {"done"}


def test_what_cannot_be_is_refused_in_one_line(terminal):
    assert "No key 'none'" in terminal.refused("keys", "revoke", "none")
    assert "printable" in terminal.refused("keys", "create", " ")
    assert "--role is of api keys" in terminal.refused("keys", "create", "x", "--role", "act", code=2)
    made = terminal.json("keys", "create", "x", "--kind", "api", "--role", "act")
    assert "overlap" in terminal.refused("keys", "rotate", made["id"], "--overlap", "soon", code=2)


def test_a_password_is_printed_as_its_hash(terminal):
    done = terminal("hash-password", stdin="secret\nsecret\n")
    assert done.exit_code == 0
    found = done.stdout.strip().splitlines()[-1]
    assert check_password_hash(found, "secret")
    assert read_doors({"users": {"ann": {"password": found}}}).users["ann"].role == "look"
