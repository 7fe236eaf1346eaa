"""Profiles without the features that the log does not hold as they were sent."""

from collections.abc import Set

import msgspec

from machine_learning_engineering.drift.profile import Profile


def without(profile: Profile, redacted: Set[str]) -> Profile:
    """A profile without these features and their members; ``*`` means all."""
    if not redacted:
        return profile
    features = {
        name: field
        for name, field in profile.features.items()
        if redacted.isdisjoint(("*", name, name.partition(".")[0]))
    }
    return msgspec.structs.replace(profile, features=features)
