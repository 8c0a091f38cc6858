"""What a rater cannot do is refused, with what it can."""

import pytest

from debiasdpo.config.rate import Readout
from debiasdpo.errors import UserError
from debiasdpo.raters.base import Rater, require
from debiasdpo.raters.callable import CallableRater
from tests.helpers.raters import local_rater


def test_a_readout_that_a_rater_cannot_do_is_refused_with_those_it_can() -> None:
    rater = CallableRater(lambda messages: 3, "three", "1")
    require(rater, "text")
    with pytest.raises(UserError) as refusal:
        require(rater, "expected")
    message = str(refusal.value)
    assert message.startswith("rate.readout: this rater cannot do expected")
    assert "set rate.readout=text" in message
    assert "rate.readout=expected" not in message


@pytest.mark.parametrize("readout", ["text", "expected"])
def test_local_weights_do_both_readouts(readout: Readout) -> None:
    require(local_rater(lambda: pytest.fail("loaded")), readout)


def test_both_are_raters() -> None:
    for rater in (local_rater(lambda: pytest.fail("loaded")), CallableRater(len, "a", "1")):
        assert isinstance(rater, Rater)
