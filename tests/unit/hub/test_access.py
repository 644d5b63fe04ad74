"""Roles and permissions, whole."""

import pytest

from insitu.domain.errors import DeniedError
from insitu.hub.access import PERMISSIONS, Actor, Permission, can, can_cancel, check_can, check_can_cancel
from insitu.wire.people import Role

# Written out a second time on purpose: a change of who may do what is to be made twice.
EXPECTED = {
    Permission.LOOK: {Role.DATA_SCIENTIST, Role.STEWARD, Role.ML_ENGINEER, Role.ADMIN},
    Permission.SUBMIT: {Role.DATA_SCIENTIST, Role.ADMIN},
    Permission.CANCEL_OWN: {Role.DATA_SCIENTIST, Role.ADMIN},
    Permission.CANCEL_ANY: {Role.STEWARD, Role.ADMIN},
    Permission.KEEP_SITES: {Role.STEWARD, Role.ADMIN},
    Permission.LABEL_MODELS: {Role.DATA_SCIENTIST, Role.ML_ENGINEER, Role.ADMIN},
    Permission.BUILD: {Role.ML_ENGINEER, Role.ADMIN},
    Permission.DEPLOY: {Role.ML_ENGINEER, Role.ADMIN},
    Permission.KEEP_TOKENS: {Role.ADMIN},
    Permission.KEEP_WHEELS: {Role.ADMIN},
}


def test_every_role_and_permission_is_in_the_table():
    assert set(PERMISSIONS) == set(Role)
    assert set(EXPECTED) == set(Permission)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("permission", Permission)
def test_a_role_may_what_the_table_says_and_nothing_else(role, permission):
    actor = Actor("somebody", role)
    assert can(actor, permission) == (role in EXPECTED[permission])
    if role not in EXPECTED[permission]:
        with pytest.raises(DeniedError) as refused:
            check_can(actor, permission)
        assert refused.value.code == "role"
        assert role in refused.value.measure


def test_a_data_scientist_cancels_only_their_own_jobs():
    alice = Actor("alice", Role.DATA_SCIENTIST)
    assert can_cancel(alice, submitter="alice")
    assert not can_cancel(alice, submitter="bob")
    assert can_cancel(Actor("jo", Role.STEWARD), submitter="bob")
    with pytest.raises(DeniedError) as refused:
        check_can_cancel(alice, submitter="bob", job_id="j-1")
    assert "bob" in refused.value.hint
