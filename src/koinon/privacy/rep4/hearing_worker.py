"""The disposable child in which a judge repeats an accused position's part.

    node → Hear     child → Heard      (or the error that ``hear`` raises)

A view comes from somebody who may be lying: what it makes this process do is bounded by the limits it runs under.
"""

from koinon.kernel.errors import MalformedMessage
from koinon.privacy.rep4.hearing import hear
from koinon.wire.catalogue import from_frame, to_frame
from koinon.wire.committee import Hear, Heard
from koinon.worker.channel import Channel


def main(channel: Channel) -> None:
    """Hear one view and end."""
    order = from_frame(channel.receive())
    if not isinstance(order, Hear):
        raise MalformedMessage(f"a judge's child was told {type(order).__name__} where Hear was due")
    finding = hear(order.dispute, order.view)
    channel.send(to_frame(Heard(finding.outcome.name)))
