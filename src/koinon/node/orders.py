"""What an operator can order: the argument and the result of every task, by the task's name.

suite.deploy     DeploySuite → Suite            any account that can pay: put the contracts on the chain
suite.adopt      Suite → Nothing                work with these contracts from now on
account.pay      Pay → Nothing                  send payment tokens and coins for gas
provider.join    Join → Nothing                 register and stake
data.add         AddData → DataAdded            validate a file, commit to its rows, mint the data set's asset
data.ask         AskData → Answered             a noisy answer about the owner's own rows
data.intersect   Intersect → Intersected         with another owner's node: which people both have
rows.add         AddRows → DataAdded            an evaluator's own rows
study.propose    ProposeStudy → results.Study
study.train      results.Study → results.Trained
model.publish    Publish → results.Published
model.harden     results.Published → results.Hardened
model.validate   Validate → results.Validated
model.name       NameModel → results.Named
model.serve      Serve → results.Served
model.share      ShareModel → SharedWith        four nodes keep a model as shares
model.ask        AskShared → PrivateAnswers      a model that four nodes keep, about rows that nobody sees
model.forget     ForgetShared → Nothing
model.answer     AnswerEncrypted → Nothing      answer encrypted rows with a model of the operator's
model.ask_encrypted  AskEncrypted → PrivateAnswers
case.accuse      Accuse → CaseOpened            bring evidence of a lie before the judges
case.plead       Plead → PleaEntered            have judges of one's own repeat this node's part
work.take        TakeWork → Nothing             on which terms this node answers encrypted questions for pay
work.outsource   Outsource → WorkDone           have strangers answer about rows that they do not see
work.multiply    Multiply → Multiplied          have a stranger multiply matrices that it sees, and check the product
results.kept     ResultsOf → Kept               what a publisher's node remembers, for the next step of the main job
fault.lie        Lie → Nothing                  demonstrations only, where node.toml allows it
"""

from koinon.journey.results import Hardened, Named, Trained, Validated
from koinon.kernel.codec import Record
from koinon.kernel.ids import Address, Hash32, NodeId
from koinon.kernel.quantities import BasisPoints, TokenAmount, Wei


class Nothing(Record, frozen=True):
    """The result of an order that only has to be carried out."""


class DeploySuite(Record, frozen=True):
    """Deploy and wire the contracts. ``supply`` is minted to the deployer; for the rest see ``SuiteParameters``."""

    supply: TokenAmount
    minimum_stake: TokenAmount
    draw_delay: int
    slash_share: BasisPoints
    judge_fee: TokenAmount
    plead_seconds: int
    judge_seconds: int


class Suite(Record, frozen=True):
    """Contract names and addresses."""

    contracts: tuple[tuple[str, Address], ...]


class Pay(Record, frozen=True):
    """Send tokens, and coins for gas, to each of these accounts."""

    accounts: tuple[Address, ...]
    tokens: TokenAmount
    coins: Wei


class Withdrawn(Record, frozen=True):
    """What the contracts owed this account."""

    amount: TokenAmount


class Join(Record, frozen=True):
    """Register as provider for the roles in ``node.toml`` and stake."""

    stake: TokenAmount


class AddData(Record, frozen=True):
    """A data owner's file. The operator's shell and the node see the same disk; the file is read by the node."""

    path: str
    target: str
    columns: tuple[tuple[str, float, float], ...]
    """Public ranges (name, low, high) agreed with the other owners; empty to take this file's own, with a margin."""
    key: str = ""
    """Column of ids, where owners hold different columns of the same people."""


class Intersect(Record, frozen=True):
    """Find out with another owner's node which people both have; its operator orders the same, the other way round.

    ``dataset_hash`` may be cut short. ``occasion`` is a text both operators agreed on, ``most`` the largest number of
    people of the other's that is accepted. ``path`` is where this owner's ids of people in both are written, or empty.
    """

    dataset_hash: bytes
    peer: NodeId
    occasion: str
    asks: bool
    both_learn: bool
    most: int
    seconds: float
    path: str = ""


class Intersected(Record, frozen=True):
    """How many people went in, and how many both have; −1 where only the other owner learns it.

    ``sent`` and ``received`` are bytes of what the two owners' nodes said to each other, over all runs.
    """

    rows: int
    common: int
    sent: int = 0
    received: int = 0


class AddRows(Record, frozen=True):
    """An evaluator's rows, with the columns and target of a study."""

    path: str
    target: str
    columns: tuple[tuple[str, float, float], ...]


class DataAdded(Record, frozen=True):
    """``asset`` is 0 for an evaluator's rows, which are no asset."""

    dataset_hash: Hash32
    rows: int
    columns: tuple[tuple[str, float, float], ...]
    target: str
    asset: int
    people: bytes = b""
    """Root of the people in the file, where it has ids."""


class AskData(Record, frozen=True):
    """A question about one column of the owner's own rows, to be answered with noise and paid from its privacy budget.

    ``dataset_hash`` may be cut short; ``question`` is count, total, mean, histogram or quantile.
    """

    dataset_hash: bytes
    question: str
    column: str
    arguments: tuple[float, ...]
    epsilon: float


class Answered(Record, frozen=True):
    """The noisy answer."""

    values: tuple[float, ...]


class ProposeStudy(Record, frozen=True):
    """The text of a ``study.toml``, and the links between committee members, for what it leaves to be chosen.

    ``round_trip_seconds`` below 0 asks for a measurement.
    """

    text: str
    round_trip_seconds: float = -1.0
    bits_per_second: float = 1e9


class Publish(Record, frozen=True):
    """``copies`` nodes beside the publisher keep the encrypted model."""

    trained: Trained
    name: str
    copies: int


class Validate(Record, frozen=True):
    """Have ``evaluators`` drawn and pay each ``fee``. ``effort`` scales budgets; 1.0 is the full suite."""

    hardened: Hardened
    evaluators: int
    fee: TokenAmount
    commit_seconds: int
    reveal_seconds: int
    effort: float


class NameModel(Record, frozen=True):
    """Register the name and point it at the weights and their vector."""

    validated: Validated
    name: str


class Serve(Record, frozen=True):
    """Mint a service and have ``endpoints`` providers answer for it."""

    named: Named
    endpoints: int
    price: TokenAmount
    pass_price: TokenAmount
    node_share: BasisPoints


class ShareModel(Record, frozen=True):
    """An ONNX file, the four nodes that are to keep it, and who may ask; no callers for everybody."""

    path: str
    name: str
    largest: float
    members: tuple[NodeId, ...]
    callers: tuple[NodeId, ...] = ()


class SharedWith(Record, frozen=True):
    """A shared model's id, which callers need, and what its rows look like."""

    model: bytes
    name: str
    row: tuple[int, ...]
    largest: float
    weights: int


class AskShared(Record, frozen=True):
    """The rows of a CSV or Parquet file for a shared model; ``member`` is any of its four nodes."""

    model: bytes
    member: NodeId
    path: str


class PrivateAnswers(Record, frozen=True):
    """Answers row by row, ``outputs`` numbers for each."""

    name: str
    outputs: int
    values: tuple[float, ...]


class ForgetShared(Record, frozen=True):
    """Of a shared model of this operator's; ``member`` is any of its four nodes."""

    model: bytes
    member: NodeId


class AnswerEncrypted(Record, frozen=True):
    """An ONNX file, the name under which it is asked, and who may ask; no callers for everybody."""

    path: str
    name: str
    callers: tuple[NodeId, ...] = ()


class AskEncrypted(Record, frozen=True):
    """The rows of a CSV or Parquet file for the model of this name at a node."""

    node: NodeId
    name: str
    path: str


class ResultsOf(Record, frozen=True):
    """``subject`` is a study's number in digits, or the name under which its model was published."""

    subject: str


class Kept(Record, frozen=True):
    """The results of a study's finished steps: (step, encoding of its result), in the order of the main job."""

    study: int
    results: tuple[tuple[str, bytes], ...]


class Disclose(Record, frozen=True):
    """Show a study's result to others."""

    study: int


class Disclosed(Record, frozen=True):
    """The encoding of a ``jobs.disclosed.DisclosedResult``."""

    result: bytes


class Accuse(Record, frozen=True):
    """Open a case about a stopped attempt. ``path`` of the evidence; empty for what this node kept of the study."""

    study: int
    path: str = ""


class CaseOpened(Record, frozen=True):
    """A case on the chain. ``accused`` are sender and backup, or one member alone; they may plead until ``deadline``
    (Unix seconds). ``paid`` to judges, where one is accused. ``case`` is 0 where the chain needs no judges, as for an
    output that is not what was agreed on: stake was ``taken`` at once.
    """

    case: int
    study: int
    attempt: int
    evidence_hash: Hash32
    accused: tuple[Address, ...]
    deadline: int
    paid: TokenAmount
    taken: TokenAmount


class Plead(Record, frozen=True):
    """Pay for judges and let them have this node's view. ``path`` of the view; empty for what this node kept.

    With ``anyway`` also where repeating its part shows this node that it will lose.
    """

    case: int
    path: str = ""
    anyway: bool = False


class PleaEntered(Record, frozen=True):
    """``finding`` is what this node found by repeating its own part; judges are drawn after block ``draw_height``."""

    case: int
    side: int
    finding: str
    paid: TokenAmount
    draw_height: int


class TakeWork(Record, frozen=True):
    """Take work that pays ``least_fee`` or more a piece and asks for ``most_bond`` or less; 0 takes none."""

    least_fee: TokenAmount
    most_bond: TokenAmount


class Outsource(Record, frozen=True):
    """Have workers answer about encrypted rows with an ONNX model. ``model`` and ``path``, of the rows, are files.

    Each piece of ``piece_rows`` rows is paid to ``agree`` workers that answer alike. ``contract`` is empty for one of
    this node's own. ``seconds`` is the time for all of it, ``claim_seconds`` after it to charge wrong answers.
    ``split`` is ``rows``, or ``model`` to cut that too and show no worker all of it.
    """

    model: str
    path: str
    workers: tuple[Address, ...]
    agree: int
    piece_rows: int
    fee: TokenAmount
    bond: TokenAmount
    contract: bytes
    seconds: int
    claim_seconds: int
    split: str = "rows"


class WorkDone(Record, frozen=True):
    """``values`` holds ``outputs`` numbers for each row; ``charged`` lost their bonds, ``silent`` did not answer."""

    contract: Address
    job: int
    pieces: int
    outputs: int
    values: tuple[float, ...]
    charged: tuple[Address, ...]
    silent: tuple[Address, ...]


class Multiply(Record, frozen=True):
    """Have workers, tried in turn, multiply two matrices. ``left``, ``right``, ``out`` are .npy files.

    ``hide`` names the matrices that no worker alone may see: ``left``, ``right``, ``both``, or is empty. With it, two
    products by different workers are paid for, or four. ``charge`` says that a wrong one is shown to the chain, with a
    row and a column of what its worker was given.

    With ``fraction_bits`` the matrices hold any numbers, rounded to so many bits after the point; without, integers.
    ``contract`` is empty for one of this node's own. ``seconds`` is the time for one worker, ``claim_seconds`` after it
    to charge a wrong product.
    """

    left: str
    right: str
    out: str
    workers: tuple[Address, ...]
    fee: TokenAmount
    bond: TokenAmount
    contract: bytes
    seconds: int
    claim_seconds: int
    fraction_bits: int = 0
    hide: str = ""
    charge: bool = True


class Multiplied(Record, frozen=True):
    """``jobs`` were paid to ``workers``; ``wrong`` signed a wrong product, of whom ``charged`` lost their bonds, and
    ``silent`` sent none.
    """

    contract: Address
    jobs: tuple[int, ...]
    workers: tuple[Address, ...]
    rows: int
    columns: int
    wrong: tuple[Address, ...]
    charged: tuple[Address, ...]
    silent: tuple[Address, ...]


class Lie(Record, frozen=True):
    """In the given attempt of the next study, if this node sits at ``position``, flip one bit of one value it
    sends; or of what it announces, if ``round`` is one of the first, in which keys are agreed on.
    """

    attempt: int
    position: int
    round: int = 12
