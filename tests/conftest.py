"""How hard the properties are tried: NEURO_MW_HYPOTHESIS=nightly for the long run."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("ci", max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", parent=settings.get_profile("ci"), max_examples=10_000)
settings.load_profile(os.environ.get("NEURO_MW_HYPOTHESIS", "ci"))
