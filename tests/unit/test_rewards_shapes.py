"""Every fidelity shape on literal numbers."""

import pytest

from bard_ray.config.schema import FidelityConfig
from bard_ray.errors import ConfigError
from bard_ray.rewards.fidelity import SHAPES, make_fidelity

# The length, and the fidelity at that length.
POINTS = {
    # d = +0.10: 1 - 8 (0.10 - 0.05) = 0.6; d = -0.10: 1 - 4 (0.10 - 0.05) = 0.8
    ("asymmetric", 20): [(20, 1), (21, 1), (19, 1), (22, 0.6), (23, 0.2), (24, 0), (18, 0.8),
                         (16, 0.4), (14, 0), (0, 0)],
    # L / b = 1.2: 1 - (1.2 - 1 - 0.1) / 0.5 = 0.8
    ("cap_linear", 1000): [(0, 1), (1000, 1), (1100, 1), (1200, 0.8), (1350, 0.5), (1600, 0),
                           (9000, 0)],
    ("band", 1000): [(1000, 1), (1100, 1), (900, 1), (1350, 0.5), (650, 0.5), (1600, 0), (400, 0),
                     (0, 0)],
    ("exp", 1000): [(0, 1), (1000, 1), (1100, 0.6065306597), (1200, 0.3678794412),
                    (3000, 4.5399930e-05)],
    # 3e-4 x 500 + 0.5 = 0.65
    ("lcpo_max", 2000): [(2000, 0.5), (1500, 0.65), (2500, 0.35), (0, 1), (5000, 0)],
    ("triangular", 1000): [(1000, 1), (500, 0.5), (1500, 0.5), (1250, 0.75), (0, 0), (2000, 0),
                           (9000, 0)],
}  # fmt: skip

BAD_PARAMETERS = {
    "asymmetric": [{"tolerance": -0.1}, {"over_slope": -1.0}, {"under_slope": float("nan")}],
    "cap_linear": [{"slope": 0.0}, {"tolerance": -0.1}],
    "band": [{"slope": -1.0}, {"tolerance": float("inf")}],
    "exp": [{"k": -1.0}],
    "lcpo_max": [{"alpha": 0.0}, {"delta": 1.5}],
    "triangular": [{"width": 0.0}],
}


@pytest.mark.parametrize(("name", "budget"), POINTS)
def test_golden_points(name, budget):
    shape = make_fidelity(FidelityConfig(name))
    found = [shape.of_length(length, budget) for length, _ in POINTS[name, budget]]
    assert found == pytest.approx([f for _, f in POINTS[name, budget]], abs=1e-9)


def test_every_shape_has_golden_points():
    assert SHAPES.names() == sorted({name for name, _ in POINTS}) == sorted(BAD_PARAMETERS)


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_fidelity_stays_within_0_and_1(name):
    shape = make_fidelity(FidelityConfig(name))
    for budget in (0, 1, 7, 500, 8000):
        for length in (0, 1, 7, 8, 499, 500, 501, 40_000):
            assert 0 <= shape.of_length(length, budget) <= 1


@pytest.mark.parametrize(
    ("name", "params"), [(name, params) for name, all_ in BAD_PARAMETERS.items() for params in all_]
)
def test_parameters_out_of_range_are_refused(name, params):
    with pytest.raises(ConfigError, match=r"rl\.reward\.fidelity\.params.*must be"):
        make_fidelity(FidelityConfig(name, params))


@pytest.mark.parametrize("name", ["asymmetric", "band", "triangular"])
def test_a_budget_of_zero_asks_for_no_thinking(name):
    shape = make_fidelity(FidelityConfig(name))
    assert shape.of_length(0, 0) == 1.0
    assert shape.of_length(1, 0) == 0.0
