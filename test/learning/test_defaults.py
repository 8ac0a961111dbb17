"""The options of the command line and the trainer node are fields of the settings, with the defaults they claim."""

from __future__ import annotations

import re

import pytest

from difftop_ros.learning import defaults
from difftop_ros.learning.settings import TrainSettings

SETTINGS = TrainSettings()
HOLDERS = {"policy": SETTINGS.policy, "training": SETTINGS, "augmentation": SETTINGS.augment}
ALL = [(title, name) for title, options in defaults.OPTIONS.items() for name in options]


@pytest.mark.parametrize(("title", "name"), ALL)
def test_an_option_is_a_field_of_its_type(title, name):
    kind, choices, text = defaults.OPTIONS[title][name]
    value = getattr(HOLDERS[title], name)
    assert type(value) is kind and (choices is None or value in choices)
    claimed = re.search(r"\(default: (.+?)\)$", text)
    if claimed and claimed[1] != "none":
        assert kind(claimed[1]) == value
    elif claimed:
        assert value == ""


def test_no_option_stands_twice():
    names = [name for _, name in ALL]
    assert len(names) == len(set(names))


def test_values_become_settings_and_none_keeps_the_default():
    values = {"horizon": 7, "steps": 11, "joint_noise": 0.5, "lr": None, "solver": None, "unrelated": 3}
    settings = TrainSettings.from_values(values)
    assert (settings.policy.horizon, settings.steps, settings.augment.joint_noise) == (7, 11, 0.5)
    assert settings.lr == SETTINGS.lr and settings.policy.solver == SETTINGS.policy.solver
