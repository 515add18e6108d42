"""Settings that every test shares: how hard Hypothesis tries, in the default tier and in the long one."""

import os

from hypothesis import HealthCheck, settings

# A deadline per example measures the machine's load, not the code. The same examples on every run of the
# default tier keep a change honest; the long tier draws new ones each time and prints how to repeat a failure.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough",
    deadline=None,
    max_examples=1000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
