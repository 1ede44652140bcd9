"""What every test gets: property tests that try the same examples in every run.

A run is a judgement of the tree and must not depend on luck. To search for new examples:
`make test ARGS='--hypothesis-profile=explore'`; what is found becomes a vector or an `@example`.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "same",
    derandomize=True,
    database=None,
    deadline=None,  # a busy machine makes nothing wrong
    suppress_health_check=[HealthCheck.too_slow],  # nor is an input wrong that takes long to draw there
)
settings.register_profile("explore", max_examples=2000)
settings.load_profile("same")
