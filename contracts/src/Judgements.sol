// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {
    ALL_BASIS_POINTS,
    AlreadyDone,
    BadField,
    BadSignature,
    COMPUTE,
    LONGEST_WAIT,
    MAXIMUM_RESCHEDULES,
    NotAllowed,
    TooEarly,
    TooLate,
    Unknown,
    WrongPhase
} from "./Common.sol";
import {Credits} from "./Credits.sol";
import {Providers} from "./Providers.sol";
import {Randomness} from "./Randomness.sol";
import {Studies} from "./Studies.sol";

/// @title Judgements: which member of a committee deviated
/// @notice An attempt of a study stopped, and there is evidence about it. It is of one of two kinds.
///
/// *About two*: they sealed different digests of one value, so one of them lied. Each of the two can plead: it pays for
/// three judges, drawn for it alone from the staked providers, and opens to them, off the chain, what it received and
/// drew. Each judge repeats its part and votes. Two equal votes decide.
///
///     accuse ▶ Open ── plead ▶ Waiting ── convene ▶ Sitting ── two equal votes, or time ▶ Over      (for each of the two)
///                └──────── both over, or nobody pleads in time ── close ▶ Closed
///
/// *About one*: it contradicted itself, or two other holders of a value state what it does not. Who accuses pays for three
/// judges, who vote on the evidence; an accused may open its part to them. Two equal votes decide and close the case.
///
///     accuseOne ▶ Waiting ── convene ▶ Sitting ── two equal votes, or time ▶ Closed
///
/// Stake is taken from a member in four cases only: its judges found that it deviated; it was accused alone, on evidence
/// that they found good, and opened nothing that clears it; the other of two was cleared and it then let the whole time to
/// plead pass, or opened nothing to its own judges; or its own signature on what it handed to the result party is not
/// over what the committee agreed on (`contradictOutput`). Once for each attempt. Judges that stay away cost nobody stake.
/// No judge hears both of two: two views together would show every row.
contract Judgements is Credits, EIP712 {
    using SafeCast for uint256;

    /// @param Kept it sent what the protocol says.
    /// @param Deviated it signed something else.
    /// @param Unopened it opened nothing that is a run of this session.
    /// @param Unproven the evidence proves nothing, or the member's peers did not sign what it received.
    enum Outcome {
        None,
        Kept,
        Deviated,
        Unopened,
        Unproven
    }

    enum Stage {
        None,
        Waiting,
        Sitting,
        Over
    }

    /// @param deadline for pleading, Unix seconds; begins anew when one of the two is cleared.
    /// @param evidenceHash names the evidence, which travels off the chain.
    /// @param accused the sender and the backup of the disputed value; or one member, and zero.
    /// @param accuser who brought the case; it pays for the judges of a member accused alone.
    struct Case {
        uint256 studyId;
        uint8 attempt;
        bool closed;
        uint64 deadline;
        bytes32 evidenceHash;
        address accuser;
        address[2] accused;
        Outcome[2] outcomes;
    }

    /// @param deadline of the present stage, Unix seconds.
    struct Hearing {
        Stage stage;
        uint8 reschedules;
        uint64 drawHeight;
        uint64 deadline;
        address[] judges;
        Outcome[] votes;
    }

    uint256 public constant JUDGES = 3;
    uint256 public constant QUORUM = 2;
    bytes32 public constant HANDED_TYPEHASH = keccak256(
        "Handed(uint256 studyId,uint256 attempt,uint256 position,bytes32 first,bytes32 second,bytes32 third)"
    );

    Providers public immutable providers;
    Studies public immutable studies;
    uint256 public immutable drawDelay;
    /// @notice Part of the stake that is taken, in basis points.
    uint256 public immutable slashShare;
    /// @notice Paid to each judge that votes, by the member that pleads.
    uint256 public immutable judgeFee;
    uint256 public immutable pleadSeconds;
    uint256 public immutable judgeSeconds;

    /// @notice Number of cases; their ids are 1 to `count`.
    uint256 public count;
    /// @notice The case of an accusation, by `accusationOf`; zero where there is none.
    mapping(bytes32 accusation => uint256) public caseAbout;
    /// Whether an account has accused two members of an attempt, and whether a member has paid for one.
    mapping(uint256 studyId => mapping(uint256 attempt => mapping(address => bool))) private _hasAccused;
    mapping(uint256 studyId => mapping(uint256 attempt => mapping(address => bool))) private _hasPaid;
    mapping(uint256 caseId => Case) private _cases;
    mapping(uint256 caseId => Hearing[2]) private _hearings;

    event Accused(
        uint256 indexed caseId,
        uint256 indexed studyId,
        uint256 attempt,
        address sender,
        address backup,
        bytes32 evidenceHash,
        uint256 deadline
    );
    event Pleaded(uint256 indexed caseId, uint256 indexed side, address indexed member, uint256 drawHeight);
    event Convened(uint256 indexed caseId, uint256 indexed side, address[] judges, uint256 deadline);
    event Voted(uint256 indexed caseId, uint256 indexed side, address indexed judge, Outcome outcome);
    /// @param outcome None where the judges did not agree in time.
    event Decided(uint256 indexed caseId, uint256 indexed side, address indexed member, Outcome outcome);
    event Convicted(uint256 indexed caseId, address indexed member, uint256 slashed);
    event Closed(uint256 indexed caseId);
    event Misdelivered(uint256 indexed studyId, uint256 indexed attempt, address indexed member, uint256 slashed);

    constructor(
        IERC20 token_,
        Providers providers_,
        Studies studies_,
        uint256 drawDelay_,
        uint256 slashShare_,
        uint256 judgeFee_,
        uint256 pleadSeconds_,
        uint256 judgeSeconds_
    ) Credits(token_) EIP712("Koinon Judgements", "1") {
        if (drawDelay_ == 0 || drawDelay_ > 128) revert BadField("drawDelay");
        if (slashShare_ > ALL_BASIS_POINTS) revert BadField("slashShare");
        if (judgeFee_ > type(uint96).max) revert BadField("judgeFee");
        if (pleadSeconds_ == 0 || pleadSeconds_ > LONGEST_WAIT) revert BadField("pleadSeconds");
        if (judgeSeconds_ == 0 || judgeSeconds_ > LONGEST_WAIT) revert BadField("judgeSeconds");
        providers = providers_;
        studies = studies_;
        drawDelay = drawDelay_;
        slashShare = slashShare_;
        judgeFee = judgeFee_;
        pleadSeconds = pleadSeconds_;
        judgeSeconds = judgeSeconds_;
    }

    // ------------------------------------------------------------------------------------------------ a case

    /// @notice Bring two members of a stopped attempt before judges. By a member of its committee or a party of the study;
    /// each once for an attempt, and nobody what another brought already.
    /// @param sender position in the committee of that attempt, 0 to 3; likewise `backup`.
    /// @param evidenceHash as `koinon study judge` prints it.
    function accuse(uint256 studyId, uint256 attempt, uint256 sender, uint256 backup, bytes32 evidenceHash)
        external
        returns (uint256 caseId)
    {
        address[] memory committee = _stopped(studyId, attempt);
        if (sender >= committee.length) revert BadField("sender");
        if (backup >= committee.length || backup == sender) revert BadField("backup");
        if (_hasAccused[studyId][attempt][msg.sender]) revert AlreadyDone(msg.sender);
        _hasAccused[studyId][attempt][msg.sender] = true;
        caseId = _begin(studyId, attempt, [committee[sender], committee[backup]], evidenceHash);
    }

    /// @notice Bring one member of a stopped attempt before judges, on evidence that names it alone. Pulls three judges'
    /// fees from the caller, who has an equal part of the stake if the member is convicted. By a member of the attempt's
    /// committee or a party of the study.
    /// @param position in the committee of that attempt, 0 to 3.
    function accuseOne(uint256 studyId, uint256 attempt, uint256 position, bytes32 evidenceHash)
        external
        returns (uint256 caseId)
    {
        address[] memory committee = _stopped(studyId, attempt);
        if (position >= committee.length) revert BadField("position");
        if (committee[position] == msg.sender) revert NotAllowed(msg.sender);
        caseId = _begin(studyId, attempt, [committee[position], address(0)], evidenceHash);
        _await(caseId, 0);
    }

    /// @notice The member at `position` signed that it handed the result party components with other digests than those
    /// of the output that the committee signed and that is on the chain: its stake pays the owners and the publisher.
    /// Proves itself; anyone may hand it in, once.
    /// @param digests of the four components; Keccak-256 of them is the study's output digest.
    /// @param handed digests of the three components that the member handed over, in the order of their indices.
    /// @param signature of the member over `handedDigest`.
    function contradictOutput(
        uint256 studyId,
        uint256 position,
        bytes32[4] calldata digests,
        bytes32[3] calldata handed,
        bytes calldata signature
    ) external {
        Studies.Study memory study = studies.studyOf(studyId);
        if (study.phase != Studies.Phase.Completed) revert WrongPhase(uint8(study.phase));
        if (position >= study.committee.length) revert BadField("position");
        if (keccak256(abi.encodePacked(digests)) != study.outputDigest) revert BadField("digests");
        bool same = true;
        for (uint256 place = 0; place < 3; place++) {
            if (handed[place] != digests[place < position ? place : place + 1]) same = false;
        }
        if (same) revert BadField("handed");
        address member = study.committee[position];
        bytes32 signed = handedDigest(studyId, study.attempt, position, handed);
        if (!SignatureChecker.isValidSignatureNow(member, signed, signature)) revert BadSignature(member);
        if (_hasPaid[studyId][study.attempt][member]) revert AlreadyDone(member);
        emit Misdelivered(
            studyId, study.attempt, member, _slash(studyId, study.attempt, member, study.publisher, address(0))
        );
    }

    /// @notice The accused of `side` asks for judges of its own and pays for them. Pulls three judges' fees.
    /// @param side 0 for the sender, 1 for the backup.
    function plead(uint256 caseId, uint256 side) external {
        Case storage entry = _open(caseId, side);
        if (msg.sender != entry.accused[side]) revert NotAllowed(msg.sender);
        if (_hearings[caseId][side].stage != Stage.None) revert AlreadyDone(msg.sender);
        if (block.timestamp > entry.deadline) revert TooLate(entry.deadline);
        _await(caseId, side);
    }

    /// @notice Draw the judges of a plea or of a member accused alone, from staked providers that were neither in the attempt nor party of the study nor
    /// judges of the other accused. Anyone may call it once the plea's block exists.
    /// @return drawn false where the block hash was out of reach and the draw was scheduled anew.
    function convene(uint256 caseId, uint256 side) external returns (bool drawn) {
        Case storage entry = _open(caseId, side);
        Hearing storage hearing = _in(caseId, side, Stage.Waiting);
        if (block.timestamp > hearing.deadline) revert TooLate(hearing.deadline);
        bytes32 entropy = Randomness.read(hearing.drawHeight);
        if (entropy == 0) {
            if (hearing.reschedules == MAXIMUM_RESCHEDULES) revert TooLate(hearing.deadline);
            hearing.reschedules += 1;
            hearing.drawHeight = (block.number + drawDelay).toUint64();
            return false;
        }
        hearing.stage = Stage.Sitting;
        // A member that is accused alone learns of it now, and needs the time of a plea to open its part.
        hearing.deadline = (block.timestamp + judgeSeconds + (_isAlone(entry) ? pleadSeconds : 0)).toUint64();
        hearing.votes = new Outcome[](JUDGES);
        bytes32 seed = keccak256(abi.encode(entropy, caseId, side));
        address[] memory judges = providers.draw(
            COMPUTE, seed, JUDGES, _barred(entry, _hearings[caseId][1 - side].judges), hearing.drawHeight - drawDelay
        );
        hearing.judges = judges;
        emit Convened(caseId, side, judges, hearing.deadline);
        return true;
    }

    /// @notice A judge says what repeating the accused's part showed it. Two equal votes decide and end the hearing.
    function vote(uint256 caseId, uint256 side, Outcome outcome) external {
        Case storage entry = _open(caseId, side);
        Hearing storage hearing = _in(caseId, side, Stage.Sitting);
        if (block.timestamp > hearing.deadline) revert TooLate(hearing.deadline);
        if (outcome == Outcome.None) revert BadField("outcome");
        uint256 own = JUDGES;
        uint256 equal = 1;
        for (uint256 i = 0; i < JUDGES; i++) {
            if (hearing.judges[i] == msg.sender) own = i;
            else if (hearing.votes[i] == outcome) equal++;
        }
        if (own == JUDGES) revert NotAllowed(msg.sender);
        if (hearing.votes[own] != Outcome.None) revert AlreadyDone(msg.sender);
        hearing.votes[own] = outcome;
        emit Voted(caseId, side, msg.sender, outcome);
        if (equal >= QUORUM) _decide(caseId, entry, hearing, side, outcome);
    }

    /// @notice A hearing whose time is over without a decision ends without one: who voted is paid, the rest goes back.
    /// Anyone may call it.
    function adjourn(uint256 caseId, uint256 side) external {
        Case storage entry = _open(caseId, side);
        Hearing storage hearing = _hearings[caseId][side];
        if (hearing.stage != Stage.Waiting && hearing.stage != Stage.Sitting) revert WrongPhase(uint8(hearing.stage));
        if (block.timestamp <= hearing.deadline) revert TooEarly(hearing.deadline);
        _decide(caseId, entry, hearing, side, Outcome.None);
    }

    /// @notice End a case when both hearings are over, or the time to plead is and nobody is being heard. Where one of the two
    /// was cleared, the other pays if it did not plead or opened nothing. Anyone may call it. A case about one member closes
    /// with its hearing.
    function close(uint256 caseId) external {
        Case storage entry = _open(caseId, 0);
        Stage sender = _hearings[caseId][0].stage;
        Stage backup = _hearings[caseId][1].stage;
        if (sender == Stage.Waiting || sender == Stage.Sitting) revert WrongPhase(uint8(sender));
        if (backup == Stage.Waiting || backup == Stage.Sitting) revert WrongPhase(uint8(backup));
        if ((sender == Stage.None || backup == Stage.None) && block.timestamp <= entry.deadline) {
            revert TooEarly(entry.deadline);
        }
        _end(caseId, entry);
        for (uint256 side = 0; side < 2; side++) {
            bool silent = _hearings[caseId][side].stage == Stage.None || entry.outcomes[side] == Outcome.Unopened;
            if (silent && entry.outcomes[1 - side] == Outcome.Kept) _convict(caseId, entry, side);
        }
    }

    // ------------------------------------------------------------------------------------------------ reading

    function caseOf(uint256 caseId) external view returns (Case memory) {
        if (caseId == 0 || caseId > count) revert Unknown(caseId);
        return _cases[caseId];
    }

    function hearingOf(uint256 caseId, uint256 side) external view returns (Hearing memory) {
        if (caseId == 0 || caseId > count) revert Unknown(caseId);
        if (side > 1) revert BadField("side");
        return _hearings[caseId][side];
    }

    /// @notice What names an accusation: the accused, the second zero where there is one, and the evidence.
    function accusationOf(uint256 studyId, uint256 attempt, address[2] memory accused, bytes32 evidenceHash)
        public
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(studyId, attempt, accused, evidenceHash));
    }

    /// @notice What a member signs of the components that it hands to the result party.
    function handedDigest(uint256 studyId, uint256 attempt, uint256 position, bytes32[3] calldata handed)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(HANDED_TYPEHASH, studyId, attempt, position, handed[0], handed[1], handed[2])
            )
        );
    }

    // ------------------------------------------------------------------------------------------------ inside

    /// The committee of a stopped attempt; the caller must be one of it, or a party.
    function _stopped(uint256 studyId, uint256 attempt) private view returns (address[] memory committee) {
        Studies.Study memory study = studies.studyOf(studyId);
        if (attempt >= study.attempt && study.phase != Studies.Phase.Ended) revert WrongPhase(uint8(study.phase));
        committee = studies.committeeOf(studyId, attempt);
        if (committee.length == 0) revert Unknown(attempt);
        if (!_isParty(studyId, study.publisher, msg.sender) && !_contains(committee, msg.sender)) {
            revert NotAllowed(msg.sender);
        }
    }

    function _begin(uint256 studyId, uint256 attempt, address[2] memory accused, bytes32 evidenceHash)
        private
        returns (uint256 caseId)
    {
        if (evidenceHash == 0) revert BadField("evidenceHash");
        bytes32 accusation = accusationOf(studyId, attempt, accused, evidenceHash);
        if (caseAbout[accusation] != 0) revert AlreadyDone(msg.sender);
        caseId = ++count;
        caseAbout[accusation] = caseId;
        Case storage entry = _cases[caseId];
        entry.studyId = studyId;
        entry.attempt = attempt.toUint8();
        entry.deadline = (block.timestamp + pleadSeconds).toUint64();
        entry.evidenceHash = evidenceHash;
        entry.accuser = msg.sender;
        entry.accused = accused;
        emit Accused(caseId, studyId, attempt, accused[0], accused[1], evidenceHash, entry.deadline);
    }

    /// A hearing waits for the block that draws its judges; the caller pays their fees.
    function _await(uint256 caseId, uint256 side) private {
        Hearing storage hearing = _hearings[caseId][side];
        hearing.stage = Stage.Waiting;
        hearing.drawHeight = (block.number + drawDelay).toUint64();
        hearing.deadline = (block.timestamp + judgeSeconds).toUint64();
        emit Pleaded(caseId, side, msg.sender, hearing.drawHeight);
        _pull(msg.sender, JUDGES * judgeFee);
    }

    function _isAlone(Case storage entry) private view returns (bool) {
        return entry.accused[1] == address(0);
    }

    function _end(uint256 caseId, Case storage entry) private {
        entry.closed = true;
        emit Closed(caseId);
    }

    function _open(uint256 caseId, uint256 side) private view returns (Case storage entry) {
        if (caseId == 0 || caseId > count) revert Unknown(caseId);
        entry = _cases[caseId];
        if (side > 1 || (side == 1 && _isAlone(entry))) revert BadField("side");
        if (entry.closed) revert AlreadyDone(msg.sender);
    }

    function _in(uint256 caseId, uint256 side, Stage stage) private view returns (Hearing storage hearing) {
        hearing = _hearings[caseId][side];
        if (hearing.stage != stage) revert WrongPhase(uint8(hearing.stage));
    }

    /// Pay who voted, give the rest back, and act on the outcome.
    function _decide(uint256 caseId, Case storage entry, Hearing storage hearing, uint256 side, Outcome outcome) private {
        address member = entry.accused[side];
        address[] memory judges = hearing.judges;
        hearing.stage = Stage.Over;
        hearing.deadline = 0;
        entry.outcomes[side] = outcome;
        emit Decided(caseId, side, member, outcome);
        uint256 rest = JUDGES * judgeFee;
        for (uint256 i = 0; i < judges.length; i++) {
            if (hearing.votes[i] == Outcome.None) continue;
            rest -= judgeFee;
            _credit(judges[i], judgeFee, "judge fee", caseId);
        }
        _credit(_isAlone(entry) ? entry.accuser : member, rest, "judge fees returned", caseId);
        if (outcome == Outcome.Kept) entry.deadline = (block.timestamp + pleadSeconds).toUint64();
        providers.unlock(judges);
        if (_isAlone(entry)) _end(caseId, entry);
        if (outcome == Outcome.Deviated || (_isAlone(entry) && outcome == Outcome.Unopened)) {
            _convict(caseId, entry, side);
        }
    }

    /// Who is convicted pays, to who accused it alone too, or to the other accused if it was cleared.
    function _convict(uint256 caseId, Case storage entry, uint256 side) private {
        address member = entry.accused[side];
        if (_hasPaid[entry.studyId][entry.attempt][member]) return;
        address also = address(0);
        if (_isAlone(entry)) also = entry.accuser;
        else if (entry.outcomes[1 - side] == Outcome.Kept) also = entry.accused[1 - side];
        address publisher = studies.studyOf(entry.studyId).publisher;
        emit Convicted(caseId, member, _slash(entry.studyId, entry.attempt, member, publisher, also));
    }

    /// The member's stake pays the owners, the publisher, and `also` where it is not zero, in equal parts.
    function _slash(uint256 studyId, uint256 attempt, address member, address publisher, address also)
        private
        returns (uint256)
    {
        _hasPaid[studyId][attempt][member] = true;
        address[] memory owners = studies.termsOf(studyId).owners;
        address[] memory payees = new address[](owners.length + (also == address(0) ? 1 : 2));
        for (uint256 i = 0; i < owners.length; i++) {
            payees[i] = owners[i];
        }
        payees[owners.length] = publisher;
        if (also != address(0)) payees[owners.length + 1] = also;
        return providers.slash(member, slashShare, payees, publisher, studyId);
    }

    /// Who cannot judge: the committee of the attempt, the parties, the result party, and the other accused's judges.
    function _barred(Case storage entry, address[] memory others) private view returns (address[] memory barred) {
        address[] memory committee = studies.committeeOf(entry.studyId, entry.attempt);
        Studies.Terms memory terms = studies.termsOf(entry.studyId);
        barred = new address[](committee.length + terms.owners.length + others.length + 2);
        uint256 next = 0;
        for (uint256 i = 0; i < committee.length; i++) {
            barred[next++] = committee[i];
        }
        for (uint256 i = 0; i < terms.owners.length; i++) {
            barred[next++] = terms.owners[i];
        }
        for (uint256 i = 0; i < others.length; i++) {
            barred[next++] = others[i];
        }
        barred[next++] = terms.resultParty;
        barred[next] = studies.studyOf(entry.studyId).publisher;
    }

    function _isParty(uint256 studyId, address publisher, address account) private view returns (bool) {
        return account == publisher || _contains(studies.termsOf(studyId).owners, account);
    }

    function _contains(address[] memory accounts, address account) private pure returns (bool) {
        for (uint256 i = 0; i < accounts.length; i++) {
            if (accounts[i] == account) return true;
        }
        return false;
    }
}
