"""From permitted endpoints to an ordered plan: pure, and the same for the same input."""

from __future__ import annotations

from daulat.values.plan import EndpointCard, Plan, Step


def plan(
    model: str,
    model_digest: str,
    endpoints: tuple[EndpointCard, ...],
    adapter: str = "",
    adapter_digest: str = "",
) -> Plan:
    """Try the endpoints in the order given.

    Args:
        endpoints: at least one, all of them permitted and able to serve the model.
        adapter, adapter_digest: of the model; empty: none.
    """
    steps = tuple(
        Step(e.name, e.place, e.owner, model, model_digest, adapter, adapter_digest)
        for e in endpoints
    )
    return Plan(steps, reason="the model was named in the request")
