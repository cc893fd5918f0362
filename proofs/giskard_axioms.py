"""What the proof in ``giskard_inductive`` takes for granted, in first-order logic.

Quorums are known only by sharing an honest member; honest validators by what they sign. ``docs/spec/giskard.md`` §8 has
the axioms in words, and a test checks them on all that simulated validators sign.
"""

from typing import Any, Final

from z3 import (
    And,
    BoolRef,
    BoolSort,
    Const,
    Consts,
    DeclareSort,
    ForAll,
    Function,
    Implies,
    Int,
    IntSort,
    MultiPattern,
    Or,
)

Node, Quorum, Block = DeclareSort("Node"), DeclareSort("Quorum"), DeclareSort("Block")
honest = Function("honest", Node, BoolSort())
member = Function("member", Node, Quorum, BoolSort())
common = Function("common", Quorum, Quorum, Node)
view = Function("view", Block, IntSort())
index = Function("index", Block, IntSort())
height = Function("height", Block, IntSort())
parent = Function("parent", Block, Block)
root = Const("root", Block)
blocks_per_view = Int("blocks_per_view")
ancestor = Function("ancestor", Block, Block, BoolSort())
"""Whether the second block is the first or descends from it."""
voted = Function("voted", Node, Block, BoolSort())
vote_time = Function("vote_time", Node, Block, IntSort())
reported = Function("reported", Node, IntSort(), Block, BoolSort())
"""Whether a validator left a view by time-out reporting this block as its highest certified one."""
certified = Function("certified", Block, BoolSort())
certificate_time = Function("certificate_time", Block, IntSort())
"""When a quorum had voted for the first time."""
voters = Function("voters", Block, Quorum)
"""That quorum."""
leavers = Function("leavers", Node, Block, Quorum)
"""Senders of the view changes that justify a first block to a validator."""
report_in = Function("report_in", Node, Block, Node, Block)
"""What one of them reports there."""

n, m = Consts("n m", Node)
p, q = Consts("p q", Quorum)
b, c, d = Consts("b c d", Block)
w = Int("w")


def ranks_at_least(upper: Any, lower: Any) -> BoolRef:
    """GISKARD-SAFETY-6: by height, then by view."""
    return Or(height(upper) > height(lower), And(height(upper) == height(lower), view(upper) >= view(lower)))


def follows_normally(block: Any) -> BoolRef:
    """The block stands on the last block of the view before."""
    return And(view(parent(block)) == view(block) - 1, index(parent(block)) == blocks_per_view - 1)


def meet(first: Any, second: Any) -> BoolRef:
    """The two quorums' common member is honest and in both."""
    member_of_both = common(first, second)
    return And(honest(member_of_both), member(member_of_both, first), member(member_of_both, second))


MEETING: Final = "quorums share an honest member"
AXIOMS: Final[dict[str, BoolRef]] = {
    # What words mean.
    MEETING: ForAll([p, q], meet(p, q)),
    "height counts from the root": ForAll(
        [b], And(height(b) >= 0, Implies(b != root, height(b) == height(parent(b)) + 1)), patterns=[parent(b)]
    ),
    "ancestors": And(
        ForAll([b], ancestor(b, b)),
        ForAll(
            [b, c],
            ancestor(b, c) == Or(b == c, And(c != root, ancestor(b, parent(c)))),
            patterns=[MultiPattern(ancestor(b, c), parent(c))],
        ),
    ),
    "ancestors of ancestors": ForAll(
        [b, c],
        Implies(And(b != root, ancestor(b, c)), ancestor(parent(b), c)),
        patterns=[MultiPattern(ancestor(b, c), parent(b))],
    ),
    "the root ends view 0": And(
        view(root) == 0, index(root) == blocks_per_view - 1, blocks_per_view >= 1, certified(root)
    ),
    "a certificate is a quorum of votes": ForAll(
        [b, n],
        Implies(
            And(certified(b), b != root, honest(n), member(n, voters(b))),
            And(voted(n, b), vote_time(n, b) <= certificate_time(b)),
        ),
    ),
    # What an honest validator does.
    "votes are for places": ForAll(
        [n, b],
        Implies(And(honest(n), voted(n, b)), And(b != root, view(b) >= 1, index(b) >= 0, index(b) < blocks_per_view)),
    ),
    "one vote at a time": ForAll(
        [n, b, c],
        Implies(And(honest(n), voted(n, b), voted(n, c), b != c), vote_time(n, b) != vote_time(n, c)),
    ),
    "views never fall": ForAll(
        [n, b, c],
        Implies(And(honest(n), voted(n, b), voted(n, c), vote_time(n, b) < vote_time(n, c)), view(b) <= view(c)),
    ),
    "indexes rise within a view": ForAll(
        [n, b, c],
        Implies(
            And(honest(n), voted(n, b), voted(n, c), view(b) == view(c), vote_time(n, b) < vote_time(n, c)),
            index(b) < index(c),
        ),
    ),
    "heights rise within a view": ForAll(
        [n, b, c],
        Implies(
            And(honest(n), voted(n, b), voted(n, c), view(b) == view(c), vote_time(n, b) < vote_time(n, c)),
            height(b) < height(c),
        ),
    ),
    "the parent is certified first": ForAll(
        [n, b],
        Implies(
            And(honest(n), voted(n, b)),
            And(certified(parent(b)), Or(parent(b) == root, certificate_time(parent(b)) < vote_time(n, b))),
        ),
    ),
    "later blocks follow in their view": ForAll(
        [n, b],
        Implies(
            And(honest(n), voted(n, b), index(b) > 0),
            And(parent(b) != root, view(parent(b)) == view(b), index(parent(b)) == index(b) - 1),
        ),
    ),
    "first blocks are justified": ForAll(
        [n, b, m],
        Implies(
            And(honest(n), voted(n, b), index(b) == 0, honest(m), member(m, leavers(n, b))),
            Or(
                follows_normally(b),
                And(
                    reported(m, view(b) - 1, report_in(n, b, m)),
                    ranks_at_least(parent(b), report_in(n, b, m)),
                ),
            ),
        ),
    ),
    "reports are no lower than what was voted on": ForAll(
        [m, w, b, c],
        Implies(And(honest(m), reported(m, w, c), voted(m, b), view(b) <= w), ranks_at_least(c, parent(b))),
    ),
}
