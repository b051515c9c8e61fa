"""The garbage collector is put back as it was found."""

from __future__ import annotations

import gc

import pytest

from solver.collector import collector_paused


@pytest.fixture
def collecting():
    gc.enable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collecting")
def test_off_within_and_on_again_afterwards():
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.usefixtures("collecting")
def test_on_again_after_an_exception():
    @collector_paused()
    def fail():
        raise RuntimeError

    for _ in range(2):  # a decorator is used more than once
        with pytest.raises(RuntimeError):
            fail()
        assert gc.isenabled()


@pytest.mark.usefixtures("collecting")
def test_who_switched_it_off_keeps_it_off():
    gc.disable()
    with collector_paused():
        pass
    assert not gc.isenabled()
