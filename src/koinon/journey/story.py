"""The main job, on one page. Start reading here.

Three organisations that may not show each other a row train one model; a company publishes it; strangers test it;
another stranger buys answers; anyone checks. Who acts in each step is said beside it; the actor's part is in the
module of that name in this room, and everybody else's part runs in their own nodes when the chain calls on them.
"""

from collections.abc import Callable
from typing import Protocol

from koinon.journey.results import Audited, Hardened, Named, Paid, Published, Served, Study, Trained, Validated

Tell = Callable[[str, float], None]
"""Hears one sentence at a time, and how far the step is (0 to 1)."""


class Actors(Protocol):
    """Who acts. The publisher's node does the first seven; a stranger pays, another one audits."""

    async def study(self, tell: Tell) -> Study:
        """Propose a signed study with its escrow; every data owner's node consents or refuses."""
        ...

    async def train(self, study: Study, tell: Tell) -> Trained:
        """Have four strangers drawn, who compute on shares; open what three of them agree on."""
        ...

    async def publish(self, trained: Trained, tell: Tell) -> Published:
        """Export, encrypt, replicate, mint with provenance and revenue split."""
        ...

    async def harden(self, published: Published, tell: Tell) -> Hardened:
        """Detect the domain, make variants, measure them, keep the best."""
        ...

    async def validate(self, hardened: Hardened, tell: Tell) -> Validated:
        """Have evaluators drawn, who test on rows nobody else has, commit, reveal and sign."""
        ...

    async def name(self, validated: Validated, tell: Tell) -> Named:
        """Register the name."""
        ...

    async def serve(self, named: Named, tell: Tell) -> Served:
        """Have two providers answer for the name."""
        ...

    async def pay(self, served: Served, tell: Tell) -> Paid:
        """A stranger buys a pass, calls, pays by voucher; the nodes settle."""
        ...

    async def audit(self, paid: Paid, tell: Tell) -> Audited:
        """Anyone exports the evidence and checks it offline."""
        ...


Step = Callable[[str], Tell]
"""Announces a step by its name and gives its listener."""


async def main_job(actors: Actors, step: Step) -> Audited:
    """study → train → publish → harden → validate → name → serve → pay → audit."""
    study = await actors.study(step("study"))
    trained = await actors.train(study, step("train"))
    published = await actors.publish(trained, step("publish"))
    hardened = await actors.harden(published, step("harden"))
    validated = await actors.validate(hardened, step("validate"))
    named = await actors.name(validated, step("name"))
    served = await actors.serve(named, step("serve"))
    paid = await actors.pay(served, step("pay"))
    return await actors.audit(paid, step("audit"))
