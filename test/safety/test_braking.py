"""The quickest stop in closed form is what its rule does tick by tick, for any state and any jerk."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from difftop_ros.safety.braking import end_speed, extent, largest_change, ramp_out, towards

RAMPS = st.one_of(st.sampled_from([2.0, 1.0, 0.5, 0.25]), st.floats(0.01, 2.0))


def stepped(speed: float, acceleration: float, ramp: float) -> tuple[float, float, float, list[float]]:
    """End, lowest and highest place of a stop with accelerations up to 1, and its accelerations."""
    place, low, high, used = 0.0, 0.0, 0.0, []
    while abs(speed) > 1e-12 or abs(acceleration) > 1e-12:
        acceleration = float(towards(np.array(-speed), np.array(acceleration), np.array(ramp), np.array(1.0)))
        speed += acceleration
        place += speed
        low, high = min(low, place), max(high, place)
        used.append(acceleration)
        assert len(used) < 3000
    return place, low, high, used


@settings(max_examples=300, deadline=None)
@given(speed=st.floats(-40, 40), acceleration=st.floats(-1, 1), ramp=RAMPS, small=st.booleans())
def test_a_stop_ends_where_it_is_said_to(speed: float, acceleration: float, ramp: float, small: bool) -> None:
    speed = speed * (0.02 if small else 1.0)
    end, low, high, used = stepped(speed, acceleration, ramp)
    got = extent(*(np.array(x) for x in (speed, acceleration, ramp, 1.0)))
    np.testing.assert_allclose(got, (end, low, high), atol=1e-8 * (1 + abs(end) + abs(low) + high))
    changes = np.abs(np.diff([acceleration, *used]))
    assert changes.max(initial=0.0) <= ramp + 1e-9
    assert np.abs(used).max(initial=0.0) <= 1.0


@given(size=st.floats(0, 50), ramp=RAMPS)
def test_the_largest_change_can_just_be_taken_back(size: float, ramp: float) -> None:
    change = largest_change(np.array(size), np.array(ramp))
    np.testing.assert_allclose(change + ramp_out(change, np.array(ramp)), size, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(end_speed(np.array(0.0), -change, np.array(ramp)), change - size, atol=1e-9 * (1 + size))
