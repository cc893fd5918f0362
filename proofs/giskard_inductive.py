"""Giskard's safety for any number of validators, views and blocks, proved by an SMT solver lemma by lemma.

    python proofs/giskard_inductive.py [--without AXIOM] [--json]

What each honest validator does is written down as axioms about its own signatures (``giskard_axioms``), quorums are
known only by sharing an honest member, and every lemma is a formula whose negation Z3 must find unsatisfiable. Lemmas
by induction go along the moment at which a block becomes certified, which is well founded; the solver checks the step,
and the hypothesis is spelled out for the blocks that the step uses. A lemma may use those before it.

What this does not show: that the code satisfies the axioms (tests and simulation are for that), anything about
liveness, and anything about what happens with more than f liars.

``--without`` leaves one axiom out: then some lemma must fail, or the axiom was not needed.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, Final

from giskard_axioms import (
    AXIOMS,
    MEETING,
    Block,
    ancestor,
    blocks_per_view,
    certificate_time,
    certified,
    common,
    height,
    index,
    leavers,
    meet,
    parent,
    ranks_at_least,
    root,
    view,
    voters,
)
from z3 import And, BoolRef, Consts, ForAll, Implies, Not, Or, Solver, unsat

MILLISECONDS: Final = 60_000
"""Time for one lemma; a proof takes a fraction of a second."""


@dataclass(frozen=True)
class Lemma:
    """A formula over certified blocks.

    Attributes:
        says: in words.
        claim: the formula as a function of its blocks.
        arity: how many blocks it is about.
        uses: the axioms and earlier lemmas that its proof may use.
        hypothesis: for proofs by induction on the certificate time of the last block: what is assumed besides.
        meeting: quorums whose common honest member the proof is about; spares the solver looking for it.
    """

    name: str
    says: str
    claim: Callable[..., BoolRef]
    arity: int
    uses: tuple[str, ...]
    hypothesis: Callable[..., BoolRef] | None = None
    meeting: Callable[..., tuple[Any, ...]] | None = None


def is_certified(*blocks: Any) -> BoolRef:
    return And(*(certified(block) for block in blocks))


def linked(elder: Any, child: Any) -> BoolRef:
    """Two linked certificates of equal or consecutive views. The three of GISKARD-SAFETY-3 begin with such a pair."""
    return And(
        is_certified(elder, child),
        child != root,
        parent(child) == elder,
        view(elder) <= view(child),
        view(child) <= view(elder) + 1,
    )


def _certified_parent(block: Any) -> BoolRef:
    return Implies(
        And(certified(block), block != root),
        And(
            is_certified(parent(block)),
            Or(parent(block) == root, certificate_time(parent(block)) < certificate_time(block)),
            view(block) >= 1,
            index(block) >= 0,
            index(block) < blocks_per_view,
            Implies(
                index(block) > 0,
                And(
                    parent(block) != root,
                    view(parent(block)) == view(block),
                    index(parent(block)) == index(block) - 1,
                ),
            ),
        ),
    )


def _one_per_place(first: Any, second: Any) -> BoolRef:
    same = And(is_certified(first, second), view(first) == view(second))
    return Implies(And(same, Or(index(first) == index(second), height(first) == height(second))), first == second)


def _heights_follow_indexes(first: Any, second: Any) -> BoolRef:
    same = And(is_certified(first, second), view(first) == view(second))
    return Implies(And(same, index(first) < index(second)), height(first) < height(second))


def _parents_are_earlier(block: Any) -> BoolRef:
    return Implies(
        And(certified(block), block != root),
        And(view(parent(block)) <= view(block), Implies(index(block) == 0, view(parent(block)) < view(block))),
    )


def _one_chain_per_view(elder: Any, younger: Any) -> BoolRef:
    same = And(is_certified(elder, younger), view(elder) == view(younger))
    return Implies(And(same, index(elder) <= index(younger)), ancestor(elder, younger))


def _heights_do_not_fall(earlier: Any, later: Any) -> BoolRef:
    return Implies(And(is_certified(earlier, later), view(earlier) < view(later)), height(earlier) <= height(later))


def _high_blocks_stand_on_it(elder: Any, child: Any, block: Any) -> BoolRef:
    high = And(certified(block), view(block) <= view(child), ranks_at_least(block, elder))
    return Implies(And(linked(elder, child), high), ancestor(elder, block))


def _later_blocks_stand_on_it(elder: Any, child: Any, block: Any) -> BoolRef:
    return Implies(And(linked(elder, child), certified(block), view(block) > view(child)), ancestor(elder, block))


def _final_blocks_agree(first: Any, child: Any, second: Any, other: Any) -> BoolRef:
    return Implies(
        And(linked(first, child), linked(second, other)), Or(ancestor(first, second), ancestor(second, first))
    )


def _left_after_voting(block: Any, first: Any) -> tuple[Any, Any]:
    """Who voted for ``block``, and who left the view before that of ``first`` as one of its voters was shown."""
    return voters(block), leavers(common(voters(first), voters(first)), first)


def _on_parent(claim: Callable[..., BoolRef]) -> Callable[..., BoolRef]:
    """The induction hypothesis for the last block's parent, which is certified earlier."""
    return lambda *blocks: Implies(blocks[-1] != root, claim(*blocks[:-1], parent(blocks[-1])))


_QUORUMS: Final = (MEETING, "a certificate is a quorum of votes", "the root ends view 0")
_ANCESTRY: Final = ("ancestors", "ancestors of ancestors")
LEMMAS: Final = (
    Lemma(
        "certified parent",
        "the parent of a certified block was certified before it",
        _certified_parent,
        1,
        (*_QUORUMS, "votes are for places", "the parent is certified first", "later blocks follow in their view"),
    ),
    Lemma(
        "one per place",
        "in a view at most one block is certified for an index, and one for a height",
        _one_per_place,
        2,
        (
            *_QUORUMS,
            "votes are for places",
            "one vote at a time",
            "indexes rise within a view",
            "heights rise within a view",
        ),
    ),
    Lemma(
        "heights follow indexes",
        "in a view, certified blocks rise in height as in index",
        _heights_follow_indexes,
        2,
        (
            *_QUORUMS,
            "votes are for places",
            "one vote at a time",
            "indexes rise within a view",
            "heights rise within a view",
        ),
    ),
    Lemma(
        "parents are earlier",
        "a first block that is certified stands on one of an earlier view",
        _parents_are_earlier,
        1,
        (
            *_QUORUMS,
            "views never fall",
            "indexes rise within a view",
            "the parent is certified first",
            "certified parent",
        ),
    ),
    Lemma(
        "one chain per view",
        "the certified blocks of a view are one chain",
        _one_chain_per_view,
        2,
        ("the root ends view 0", "ancestors", "certified parent", "one per place"),
        _on_parent(_one_chain_per_view),
    ),
    Lemma(
        "heights do not fall",
        "no certified block is lower than one of an earlier view",
        _heights_do_not_fall,
        2,
        (
            *_QUORUMS,
            "height counts from the root",
            "first blocks are justified",
            "reports are no lower than what was voted on",
            "certified parent",
            "one per place",
            "heights follow indexes",
        ),
        _on_parent(_heights_do_not_fall),
        lambda earlier, later: (voters(later), *_left_after_voting(earlier, later)),
    ),
    Lemma(
        "high blocks",
        "up to the child's view, whatever ranks no lower than a linked block stands on it",
        _high_blocks_stand_on_it,
        3,
        (
            *_ANCESTRY,
            "the root ends view 0",
            "certified parent",
            "heights follow indexes",
            "one chain per view",
            "heights do not fall",
        ),
    ),
    Lemma(
        "later blocks",
        "whatever is certified after the child's view stands on the linked block",
        _later_blocks_stand_on_it,
        3,
        (
            *_QUORUMS,
            *_ANCESTRY,
            "first blocks are justified",
            "reports are no lower than what was voted on",
            "certified parent",
            "parents are earlier",
            "one chain per view",
            "high blocks",
        ),
        _on_parent(_later_blocks_stand_on_it),
        lambda _, child, block: (voters(block), *_left_after_voting(child, block)),
    ),
    Lemma(
        "agreement",
        "of two linked, hence of two final blocks, one stands on the other",
        _final_blocks_agree,
        4,
        (*_ANCESTRY, "one chain per view", "later blocks"),
    ),
)


@dataclass(frozen=True)
class Verdict:
    """Whether the solver proved a lemma."""

    lemma: str
    proved: bool
    seconds: float


def prove(lemmas: Iterable[Lemma] = LEMMAS, without: str | None = None, budget: int = MILLISECONDS) -> list[Verdict]:
    """Prove every lemma from the axioms and the lemmas before it; stop at the first that is not proved.

    Args:
        without: name of an axiom to leave out.
        budget: milliseconds for each lemma.
    """
    verdicts = []
    known: dict[str, BoolRef] = {name: axiom for name, axiom in AXIOMS.items() if name != without}
    for lemma in lemmas:
        begun = time.process_time()
        blocks = Consts(" ".join(f"{lemma.name.replace(' ', '_')}_{number}" for number in range(lemma.arity)), Block)
        solver = Solver()
        solver.set(timeout=budget, random_seed=1)
        solver.add(*(known[name] for name in lemma.uses if name != without))
        if lemma.hypothesis is not None:
            solver.add(lemma.hypothesis(*blocks))
        if lemma.meeting is not None and without != MEETING:
            solver.add(*(meet(*pair) for pair in combinations_with_replacement(lemma.meeting(*blocks), 2)))
        solver.add(Not(lemma.claim(*blocks)))
        proved = solver.check() == unsat
        verdicts.append(Verdict(lemma.name, proved, time.process_time() - begun))
        if not proved:
            break
        variables = Consts("b c d e", Block)[: lemma.arity]
        known[lemma.name] = ForAll(list(variables), lemma.claim(*variables))
    return verdicts


def main() -> int:
    """The command line; 1 where a lemma was not proved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", choices=AXIOMS, metavar="AXIOM", help=f"one of: {', '.join(AXIOMS)}")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    verdicts = prove(without=arguments.without)
    complete = len(verdicts) == len(LEMMAS) and all(verdict.proved for verdict in verdicts)
    if arguments.json:
        found = [
            {"lemma": verdict.lemma, "proved": verdict.proved, "cpu_seconds": round(verdict.seconds, 2)}
            for verdict in verdicts
        ]
        print(json.dumps({"complete": complete, "without": arguments.without, "lemmas": found}))
    else:
        for lemma, verdict in zip(LEMMAS, verdicts, strict=False):
            print(
                f"{'proved' if verdict.proved else 'NOT PROVED'} {verdict.seconds:6.2f} s  {lemma.name}: {lemma.says}"
            )
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
