"""Tokens: what is kept of them, who they let in, and until when."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from veilseg.access import tokens
from veilseg.access.errors import NotAuthenticated, NotPermitted
from veilseg.access.tokens import Grant, digest_of, grant_of, issue, require_role, successor
from veilseg.errors import InvalidInput

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_a_token_is_kept_as_its_hash_alone():
    token, grant = issue("uni-1", ["infer", "admin", "infer"], 30, NOW)
    assert re.fullmatch(r"veilseg_[0-9a-f]{12}_[\w-]{43}", token)
    assert grant.roles == ("admin", "infer")
    assert grant.expires - grant.issued == timedelta(days=30)
    secret = token.removeprefix(f"veilseg_{grant.id}_")
    assert secret not in str(grant.to_json())
    assert Grant.from_json(grant.to_json()) == grant
    assert grant.digest == digest_of(token)


def test_tokens_differ():
    made = {issue("uni", ["infer"], 1)[0] for _ in range(50)}
    assert len(made) == 50


def test_who_is_let_in():
    token, grant = issue("uni", ["infer"], 30, NOW)
    grants = {grant.id: grant}
    assert grant_of(token, grants, NOW) is grant
    assert grant_of(token, grants, NOW + timedelta(days=29.99)) is grant
    other = f"veilseg_{grant.id}_{'A' * 43}"
    for wrong in (
        "",
        "Bearer",
        other,
        token[:-1],
        token + "A",
        token.upper(),
        f" {token}",
        "é\x00",
    ):
        with pytest.raises(NotAuthenticated, match=r"^the token is unknown$"):
            grant_of(wrong, grants, NOW)
    with pytest.raises(NotAuthenticated, match=r"^the token is unknown$"):
        grant_of(token, {}, NOW)
    with pytest.raises(NotAuthenticated, match=r"^the token is expired$"):
        grant_of(token, grants, grant.expires)
    revoked = {grant.id: Grant.from_json({**grant.to_json(), "revoked": True})}
    with pytest.raises(NotAuthenticated, match=r"^the token is revoked$"):
        grant_of(token, revoked, NOW)
    # Only the holder of the token learns why.
    with pytest.raises(NotAuthenticated, match=r"^the token is unknown$"):
        grant_of(other, revoked, NOW)


def test_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch):
    token, grant = issue("uni", ["infer"], 30, NOW)
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(tokens.hmac, "compare_digest", compare)
    grant_of(token, {grant.id: grant}, NOW)
    # An unknown token takes the same way as a known one.
    with pytest.raises(NotAuthenticated):
        grant_of(token, {}, NOW)
    assert [len(one) for one, _ in compared] == [64, 64]


def test_roles():
    require_role(("infer",), "infer")
    require_role(("infer", "metrics"), "admin", "metrics")
    with pytest.raises(NotPermitted, match=r"^this needs the role admin or metrics$"):
        require_role(("infer",), "admin", "metrics")


@pytest.mark.parametrize(
    ("site", "roles", "days", "reason"),
    [
        ("", ["infer"], 1, "site: ''"),
        ("a b", ["infer"], 1, "site: 'a b'"),
        ('x"\n', ["infer"], 1, "site: "),
        ("a" * 65, ["infer"], 1, "site: "),
        ("uni", [], 1, "roles: "),
        ("uni", ["Infer"], 1, "roles: "),
        ("uni", ["infer"], 0, "days: 0 is not between"),
        ("uni", ["infer"], 3651, "days: 3651 is not between"),
        ("uni", ["infer"], float("nan"), "days: nan is not between"),
    ],
)
def test_what_no_token_is_made_of(site: str, roles: list[str], days: float, reason: str):
    with pytest.raises(InvalidInput, match=f"^{reason}"):
        issue(site, roles, days, NOW)


def test_a_successor():
    token, old = issue("uni", ["admin", "infer"], 10, NOW)
    later = NOW + timedelta(days=4)
    fresh, new, ending = successor(old, 24, later)
    assert (new.site, new.roles, new.expires) == ("uni", old.roles, later + timedelta(days=10))
    assert ending.expires == later + timedelta(days=1)
    grants = {new.id: new, ending.id: ending}
    for one in (token, fresh):
        assert grant_of(one, grants, later + timedelta(hours=23)).site == "uni"
    with pytest.raises(NotAuthenticated, match="expired"):
        grant_of(token, grants, later + timedelta(hours=24))
    # A grace longer than what was left gives nothing more.
    assert successor(old, 1e4, later)[2].expires == old.expires
    with pytest.raises(InvalidInput, match=f"token {old.id} is expired: issue a new one"):
        successor(old, 1, old.expires)
    for hours in (1e20, float("nan")):
        with pytest.raises(InvalidInput, match=r"grace_hours: .* is more than 87600"):
            successor(old, hours, later)
    with pytest.raises(InvalidInput, match="grace_hours: -1 is negative"):
        successor(old, -1, later)
