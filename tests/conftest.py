"""How hard properties are tried (NEURO_MW_HYPOTHESIS=nightly: long), and no test writes to the state of the user."""

import os
import tempfile

from hypothesis import HealthCheck, settings

settings.register_profile("ci", max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", parent=settings.get_profile("ci"), max_examples=10_000)
settings.load_profile(os.environ.get("NEURO_MW_HYPOTHESIS", "ci"))

os.environ.pop("NEURO_MW_STATE", None)
_state = tempfile.TemporaryDirectory(prefix="neuro-mw-tests-")
os.environ["XDG_STATE_HOME"] = _state.name
