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
    BadOpening,
    BadSignature,
    COMPUTE,
    EntropyOutOfReach,
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

/// @title Studies: agreed private computations, their escrow, their committee and their result
/// @notice The life of a study:
///
///     Proposed ──all consent──▶ Locked ──all reveal──▶ Drawing ──draw──▶ Running ──complete──▶ Completed
///         │                        │                      │  ▲             │
///         └── refuse, cancel, ─────┴── expire ────────────┘  └─ complaint, ┘ unanswered challenge, run time over
///             expire ▶ Ended
///
/// Parties are numbered: the publisher is 0, the owners follow in the order of the terms. Each commits to a nonce before
/// the lock. The lock fixes `drawHeight`; nonces open only after that block exists. So no nonce is chosen knowing the
/// block, and no block is made knowing the nonces. Who does not open forfeits the bond, and the study ends.
/// Every phase has one deadline; after it anyone may call `expire`, which moves on or gives the money back.
contract Studies is Credits, EIP712 {
    using SafeCast for uint256;

    enum Phase {
        None,
        Proposed,
        Locked,
        Drawing,
        Running,
        Completed,
        Ended
    }

    /// @param specHash hash of the signed study file.
    /// @param algorithmHash hash that names the code of the computation.
    /// @param resultParty who may open the output; it has no veto.
    /// @param committeeFee paid to each of the four members of the attempt that completes.
    /// @param ownerFee paid to each owner on completion.
    /// @param bond put up by each party against not opening its nonce.
    /// @param consentDeadline Unix seconds.
    /// @param runSeconds time to draw a committee, and again for the committee to deliver.
    /// @param maximumAttempts committees drawn before the money goes back.
    struct Terms {
        bytes32 specHash;
        bytes32 algorithmHash;
        address[] owners;
        address resultParty;
        uint128 committeeFee;
        uint128 ownerFee;
        uint128 bond;
        uint64 consentDeadline;
        uint32 revealSeconds;
        uint32 runSeconds;
        uint32 challengeSeconds;
        uint8 maximumAttempts;
    }

    /// @param deadline of the current phase, Unix seconds.
    /// @param drawHeight the block whose hash enters the next draw.
    /// @param entropy hash of the first drawHeight; zero until it is captured.
    /// @param seed of attempt 0: `keccak256(abi.encode(nonces in party order, entropy))`.
    struct Study {
        address publisher;
        Phase phase;
        uint8 attempt;
        uint8 reschedules;
        uint8 consents;
        uint8 reveals;
        uint8 openChallenges;
        uint64 drawHeight;
        uint64 deadline;
        uint128 held;
        bytes32 entropy;
        bytes32 seed;
        bytes32 outputDigest;
        address[] committee;
        address[] excluded;
    }

    struct Party {
        bytes32 nonceCommitment;
        bytes32 nonce;
        bytes32 datasetHash;
        bool consented;
        bool revealed;
    }

    /// @param deadline zero where there is none.
    struct Challenge {
        address challenger;
        uint64 deadline;
        bool answered;
    }

    uint256 public constant COMMITTEE_SIZE = 4;
    uint256 public constant SIGNATURES_NEEDED = 3;
    uint256 public constant MAXIMUM_OWNERS = 32;
    uint256 public constant MAXIMUM_ATTEMPTS = 16;
    bytes32 public constant CONSENT_TYPEHASH = keccak256(
        "Consent(uint256 studyId,bytes32 specHash,bytes32 datasetHash,bytes32 nonceCommitment,uint256 deadline)"
    );
    bytes32 public constant RESULT_TYPEHASH =
        keccak256("Result(uint256 studyId,uint256 attempt,bytes32 outputDigest)");

    Providers public immutable providers;
    /// @notice Blocks between the lock and the block whose hash is used.
    uint256 public immutable drawDelay;
    /// @notice Part of the stake lost by a member that leaves a challenge unanswered, in basis points.
    uint256 public immutable slashShare;

    /// @notice Number of studies; their ids are 1 to `count`.
    uint256 public count;
    mapping(uint256 studyId => Study) private _studies;
    mapping(uint256 studyId => Terms) private _terms;
    mapping(uint256 studyId => mapping(uint256 party => Party)) private _parties;
    mapping(uint256 studyId => mapping(uint256 attempt => mapping(uint256 position => Challenge))) private _challenges;
    mapping(uint256 studyId => mapping(uint256 attempt => mapping(uint256 position => bool))) private _contradicted;
    mapping(uint256 studyId => mapping(uint256 attempt => address[])) private _committees;

    event Proposed(
        uint256 indexed studyId,
        address indexed publisher,
        bytes32 indexed specHash,
        bytes32 algorithmHash,
        bytes32 nonceCommitment
    );
    event Consented(
        uint256 indexed studyId, address indexed owner, bytes32 datasetHash, bytes32 nonceCommitment, bytes signature
    );
    event Refused(uint256 indexed studyId, address indexed owner, bytes32 reasonHash);
    event LockedIn(uint256 indexed studyId, uint256 drawHeight, uint256 deadline);
    event DrawScheduled(uint256 indexed studyId, uint256 indexed attempt, uint256 drawHeight, uint256 deadline);
    event EntropyCaptured(uint256 indexed studyId, uint256 height, bytes32 entropy);
    event Revealed(uint256 indexed studyId, address indexed party, bytes32 nonce);
    event Seeded(uint256 indexed studyId, bytes32 seed);
    event Drawn(
        uint256 indexed studyId, uint256 indexed attempt, bytes32 seed, address[] committee, uint256 deadline
    );
    /// @param backup zero where the frame had none.
    event Complained(uint256 indexed studyId, uint256 indexed attempt, address sender, address backup, address receiver);
    event Declined(uint256 indexed studyId, uint256 indexed attempt, address member);
    event Challenged(
        uint256 indexed studyId,
        uint256 indexed attempt,
        address indexed member,
        uint256 position,
        address challenger,
        uint256 deadline
    );
    event Answered(uint256 indexed studyId, uint256 indexed attempt, address indexed member, uint256 position);
    event ChallengeExpired(uint256 indexed studyId, uint256 indexed attempt, address indexed member, uint256 slashed);
    event Contradicted(uint256 indexed studyId, uint256 indexed attempt, address indexed member, uint256 slashed);
    event AttemptFailed(uint256 indexed studyId, uint256 indexed attempt, bytes32 reason);
    event Completed(uint256 indexed studyId, uint256 indexed attempt, bytes32 outputDigest, address[] signers);
    /// @param reason "refused", "cancelled", "no consent", "no reveal", "no draw" or "no attempt left".
    event Ended(uint256 indexed studyId, bytes32 reason);

    error TooFewSignatures(uint256 given, uint256 needed);
    error ChallengeOpen(uint256 count);
    error WrongAttempt(uint256 attempt, uint256 current);

    constructor(IERC20 token_, Providers providers_, uint256 drawDelay_, uint256 slashShare_)
        Credits(token_)
        EIP712("Koinon Studies", "1")
    {
        if (drawDelay_ == 0 || drawDelay_ > 128) revert BadField("drawDelay");
        if (slashShare_ > ALL_BASIS_POINTS) revert BadField("slashShare");
        providers = providers_;
        drawDelay = drawDelay_;
        slashShare = slashShare_;
    }

    // ------------------------------------------------------------------------------------------------ agreement

    /// @notice Propose a study. Pulls the fees of committee and owners and the publisher's bond from the caller.
    /// @param nonceCommitment `nonceCommitmentOf(publisher, specHash, nonce)`.
    function propose(Terms calldata terms, bytes32 nonceCommitment) external returns (uint256 studyId) {
        _checkTerms(terms);
        if (nonceCommitment == 0) revert BadField("nonceCommitment");
        studyId = ++count;
        Study storage study = _studies[studyId];
        study.publisher = msg.sender;
        study.phase = Phase.Proposed;
        study.deadline = terms.consentDeadline;
        uint256 escrow = COMMITTEE_SIZE * uint256(terms.committeeFee)
            + terms.owners.length * uint256(terms.ownerFee) + terms.bond;
        study.held = escrow.toUint128();
        _terms[studyId] = terms;
        _parties[studyId][0].nonceCommitment = nonceCommitment;
        _parties[studyId][0].consented = true;
        emit Proposed(studyId, msg.sender, terms.specHash, terms.algorithmHash, nonceCommitment);
        _pull(msg.sender, escrow);
    }

    /// @notice Enter the consent of `owner`; anyone may relay it. Pulls the owner's bond by allowance. The last consent
    /// locks the study.
    /// @param datasetHash root of the owner's dataset commitment.
    /// @param signature over `consentDigest`, of the owner's key or ERC-1271 account.
    function consent(
        uint256 studyId,
        address owner,
        bytes32 datasetHash,
        bytes32 nonceCommitment,
        bytes calldata signature
    ) external {
        Study storage study = _in(studyId, Phase.Proposed);
        Terms storage terms = _terms[studyId];
        if (block.timestamp > study.deadline) revert TooLate(study.deadline);
        if (datasetHash == 0) revert BadField("datasetHash");
        if (nonceCommitment == 0) revert BadField("nonceCommitment");
        Party storage party = _parties[studyId][_ownerNumber(terms, owner)];
        if (party.consented) revert AlreadyDone(owner);
        bytes32 digest = consentDigest(studyId, datasetHash, nonceCommitment);
        if (!SignatureChecker.isValidSignatureNow(owner, digest, signature)) revert BadSignature(owner);
        party.consented = true;
        party.datasetHash = datasetHash;
        party.nonceCommitment = nonceCommitment;
        study.consents += 1;
        study.held += terms.bond;
        emit Consented(studyId, owner, datasetHash, nonceCommitment, signature);
        if (study.consents == terms.owners.length) {
            study.phase = Phase.Locked;
            study.drawHeight = (block.number + drawDelay).toUint64();
            study.deadline = (block.timestamp + terms.revealSeconds).toUint64();
            emit LockedIn(studyId, study.drawHeight, study.deadline);
        }
        _pull(owner, terms.bond);
    }

    /// @notice An owner says no, or takes its consent back. Possible until the lock; final: the study ends.
    /// @param reasonHash hash of the reason that the owner's node gave to the publisher.
    function refuse(uint256 studyId, bytes32 reasonHash) external {
        Study storage study = _in(studyId, Phase.Proposed);
        _ownerNumber(_terms[studyId], msg.sender);
        emit Refused(studyId, msg.sender, reasonHash);
        _refund(studyId, study, "refused");
    }

    /// @notice The publisher takes the proposal back. Possible until the lock.
    function cancel(uint256 studyId) external {
        Study storage study = _in(studyId, Phase.Proposed);
        if (msg.sender != study.publisher) revert NotAllowed(msg.sender);
        _refund(studyId, study, "cancelled");
    }

    // ------------------------------------------------------------------------------------------------ drawing

    /// @notice Fix the block randomness of a locked study. Anyone may call it once `drawHeight` has passed; the first
    /// reveal does it too. Where the hash is out of reach the draw is scheduled anew: no nonce is open yet.
    function capture(uint256 studyId) external {
        Study storage study = _in(studyId, Phase.Locked);
        if (study.entropy != 0) revert AlreadyDone(msg.sender);
        if (!_capture(studyId, study)) _reschedule(studyId, study);
    }

    /// @notice Open the nonce of a party. Anyone who knows it may relay it. Reverts where the block hash is out of
    /// reach; then `capture` schedules the draw anew.
    function reveal(uint256 studyId, uint256 party, bytes32 nonce) external {
        Study storage study = _in(studyId, Phase.Locked);
        if (block.timestamp > study.deadline) revert TooLate(study.deadline);
        if (study.entropy == 0 && !_capture(studyId, study)) revert EntropyOutOfReach(study.drawHeight);
        Terms storage terms = _terms[studyId];
        if (party > terms.owners.length) revert BadField("party");
        address account = _account(study, terms, party);
        Party storage record = _parties[studyId][party];
        if (record.revealed) revert AlreadyDone(account);
        if (nonceCommitmentOf(account, terms.specHash, nonce) != record.nonceCommitment) revert BadOpening(account);
        record.revealed = true;
        record.nonce = nonce;
        study.reveals += 1;
        emit Revealed(studyId, account, nonce);
        if (study.reveals == terms.owners.length + 1) {
            study.seed = _seed(studyId, study.reveals, study.entropy);
            study.phase = Phase.Drawing;
            study.deadline = (block.timestamp + terms.runSeconds).toUint64();
            emit Seeded(studyId, study.seed);
        }
    }

    /// @notice Draw the committee of the current attempt. Anyone may call it.
    /// @return drawn false where the block hash of a re-run was out of reach and the draw was scheduled anew.
    function draw(uint256 studyId) external returns (bool drawn) {
        Study storage study = _in(studyId, Phase.Drawing);
        Terms storage terms = _terms[studyId];
        if (block.timestamp > study.deadline) revert TooLate(study.deadline);
        bytes32 seed = study.seed;
        if (study.attempt > 0) {
            bytes32 fresh = Randomness.read(study.drawHeight);
            if (fresh == 0) {
                _reschedule(studyId, study);
                return false;
            }
            seed = keccak256(abi.encode(seed, uint256(study.attempt), fresh));
        }
        study.phase = Phase.Running;
        study.deadline = (block.timestamp + terms.runSeconds).toUint64();
        study.openChallenges = 0;
        address[] memory committee =
            providers.draw(COMPUTE, seed, COMMITTEE_SIZE, _barred(study, terms), study.drawHeight - drawDelay);
        study.committee = committee;
        _committees[studyId][study.attempt] = committee;
        emit Drawn(studyId, study.attempt, seed, committee, study.deadline);
        return true;
    }

    // ------------------------------------------------------------------------------------------------ running

    /// @notice A receiver that met a wrong or missing frame names itself, the sender and the backup. Nobody is slashed;
    /// those named are out of this study and unpaid, and another committee is drawn.
    /// @param sender position in the committee, 0 to 3; likewise `backup` and `receiver`.
    /// @param backup 4 where the frame had none, as with a silent sender: nobody else is left out for it.
    function complain(uint256 studyId, uint256 attempt, uint256 sender, uint256 backup, uint256 receiver) external {
        Study storage study = _running(studyId, attempt);
        if (sender >= COMMITTEE_SIZE) revert BadField("sender");
        if (backup > COMMITTEE_SIZE || backup == sender) revert BadField("backup");
        if (receiver >= COMMITTEE_SIZE || receiver == sender || receiver == backup) revert BadField("receiver");
        address[] storage committee = study.committee;
        if (msg.sender != committee[receiver]) revert NotAllowed(msg.sender);
        address third = backup == COMMITTEE_SIZE ? address(0) : committee[backup];
        study.excluded.push(committee[sender]);
        if (third != address(0)) study.excluded.push(third);
        study.excluded.push(committee[receiver]);
        emit Complained(studyId, attempt, committee[sender], third, committee[receiver]);
        _failAttempt(studyId, study, "complaint");
    }

    /// @notice A member that cannot run this study says so: it alone is out, nobody is slashed, and another committee is
    /// drawn at once.
    function decline(uint256 studyId, uint256 attempt) external {
        Study storage study = _running(studyId, attempt);
        _position(study, msg.sender);
        study.excluded.push(msg.sender);
        emit Declined(studyId, attempt, msg.sender);
        _failAttempt(studyId, study, "declined");
    }

    /// @notice Ask the member at `position` for a sign of life. Once for each member and attempt, by a party, the result
    /// party or another member, before the run time is over.
    function challenge(uint256 studyId, uint256 attempt, uint256 position) external {
        Study storage study = _running(studyId, attempt);
        if (block.timestamp > study.deadline) revert TooLate(study.deadline);
        if (position >= COMMITTEE_SIZE) revert BadField("position");
        Terms storage terms = _terms[studyId];
        address member = study.committee[position];
        if (msg.sender == member || !_mayChallenge(study, terms, msg.sender)) revert NotAllowed(msg.sender);
        Challenge storage entry = _challenges[studyId][attempt][position];
        if (entry.deadline != 0) revert AlreadyDone(member);
        entry.challenger = msg.sender;
        entry.deadline = (block.timestamp + terms.challengeSeconds).toUint64();
        study.openChallenges += 1;
        emit Challenged(studyId, attempt, member, position, msg.sender, entry.deadline);
    }

    /// @notice The challenged member answers.
    function answer(uint256 studyId, uint256 attempt) external {
        Study storage study = _running(studyId, attempt);
        uint256 position = _position(study, msg.sender);
        Challenge storage entry = _challenges[studyId][attempt][position];
        if (entry.deadline == 0) revert Unknown(position);
        if (entry.answered) revert AlreadyDone(msg.sender);
        if (block.timestamp > entry.deadline) revert TooLate(entry.deadline);
        entry.answered = true;
        study.openChallenges -= 1;
        emit Answered(studyId, attempt, msg.sender, position);
    }

    /// @notice The member at `position` left a challenge unanswered past its deadline: its stake pays the owners and
    /// the publisher, it is out, and another committee is drawn. Anyone may call it.
    function expireChallenge(uint256 studyId, uint256 attempt, uint256 position) external {
        Study storage study = _running(studyId, attempt);
        Challenge storage entry = _challenges[studyId][attempt][position];
        if (entry.deadline == 0 || entry.answered) revert Unknown(position);
        if (block.timestamp <= entry.deadline) revert TooEarly(entry.deadline);
        address member = study.committee[position];
        study.excluded.push(member);
        _failAttempt(studyId, study, "unanswered challenge");
        emit ChallengeExpired(studyId, attempt, member, _slash(studyId, study, member));
    }

    /// @notice One member signed two results of one attempt: a contradiction that proves itself. Its stake pays the owners
    /// and the publisher; a running attempt ends and another committee is drawn. Anyone may hand it in, once, while the
    /// attempt runs or after it completed.
    /// @param oneSignature of the member at `position` over `resultDigest` of `oneDigest`; `otherSignature` likewise.
    function contradict(
        uint256 studyId,
        uint256 attempt,
        uint256 position,
        bytes32 oneDigest,
        bytes32 otherDigest,
        bytes calldata oneSignature,
        bytes calldata otherSignature
    ) external {
        Study storage study = _existing(studyId);
        if (study.phase != Phase.Running && study.phase != Phase.Completed) revert WrongPhase(uint8(study.phase));
        if (attempt != study.attempt) revert WrongAttempt(attempt, study.attempt);
        if (position >= COMMITTEE_SIZE) revert BadField("position");
        if (oneDigest == otherDigest) revert BadField("otherDigest");
        address member = study.committee[position];
        bytes32 one = resultDigest(studyId, attempt, oneDigest);
        if (!SignatureChecker.isValidSignatureNow(member, one, oneSignature)) revert BadSignature(member);
        bytes32 other = resultDigest(studyId, attempt, otherDigest);
        if (!SignatureChecker.isValidSignatureNow(member, other, otherSignature)) revert BadSignature(member);
        if (_contradicted[studyId][attempt][position]) revert AlreadyDone(member);
        _contradicted[studyId][attempt][position] = true;
        if (study.phase == Phase.Running) {
            study.excluded.push(member);
            _failAttempt(studyId, study, "contradiction");
        }
        emit Contradicted(studyId, attempt, member, _slash(studyId, study, member));
    }

    /// @notice Three matching signatures of the committee end the study and pay everybody. Anyone may relay them.
    /// @param signatures one for each position over `resultDigest`; empty where a member did not sign.
    function complete(uint256 studyId, uint256 attempt, bytes32 outputDigest, bytes[] calldata signatures) external {
        Study storage study = _running(studyId, attempt);
        if (outputDigest == 0) revert BadField("outputDigest");
        if (signatures.length != COMMITTEE_SIZE) revert BadField("signatures");
        address[] memory committee = study.committee;
        address[] memory signers = _signers(committee, resultDigest(studyId, attempt, outputDigest), signatures);
        study.phase = Phase.Completed;
        study.deadline = 0;
        study.outputDigest = outputDigest;
        emit Completed(studyId, attempt, outputDigest, signers);
        Terms storage terms = _terms[studyId];
        uint256 rest = study.held;
        study.held = 0;
        for (uint256 i = 0; i < COMMITTEE_SIZE; i++) {
            rest -= terms.committeeFee;
            _credit(committee[i], terms.committeeFee, "committee fee", studyId);
        }
        for (uint256 i = 0; i < terms.owners.length; i++) {
            rest -= uint256(terms.ownerFee) + terms.bond;
            _credit(terms.owners[i], terms.ownerFee, "owner fee", studyId);
            _credit(terms.owners[i], terms.bond, "bond", studyId);
        }
        _credit(study.publisher, rest, "bond", studyId);
        providers.unlock(committee);
    }

    // ------------------------------------------------------------------------------------------------ time-outs

    /// @notice The phase's deadline has passed: move on, or give the money back. Anyone may call it.
    function expire(uint256 studyId) external {
        Study storage study = _studies[studyId];
        Phase phase = study.phase;
        if (phase == Phase.None) revert Unknown(studyId);
        if (phase == Phase.Completed || phase == Phase.Ended) revert WrongPhase(uint8(phase));
        if (block.timestamp <= study.deadline) revert TooEarly(study.deadline);
        if (phase == Phase.Proposed) {
            _refund(studyId, study, "no consent");
        } else if (phase == Phase.Locked) {
            _penalise(studyId, study);
        } else if (phase == Phase.Drawing) {
            _refund(studyId, study, "no draw");
        } else {
            if (study.openChallenges != 0) revert ChallengeOpen(study.openChallenges);
            _failAttempt(studyId, study, "run time over");
        }
    }

    // ------------------------------------------------------------------------------------------------ reading

    function studyOf(uint256 studyId) external view returns (Study memory) {
        return _existing(studyId);
    }

    function termsOf(uint256 studyId) external view returns (Terms memory) {
        _existing(studyId);
        return _terms[studyId];
    }

    /// @param party 0 is the publisher, owners follow.
    function partyOf(uint256 studyId, uint256 party) external view returns (Party memory) {
        _existing(studyId);
        return _parties[studyId][party];
    }

    function challengeOf(uint256 studyId, uint256 attempt, uint256 position) external view returns (Challenge memory) {
        return _challenges[studyId][attempt][position];
    }

    /// @notice Who was drawn for an attempt, by position, whatever became of it; empty where nobody was yet.
    function committeeOf(uint256 studyId, uint256 attempt) external view returns (address[] memory) {
        return _committees[studyId][attempt];
    }

    /// @notice Publisher and output of a completed study. Reverts for any other.
    function resultOf(uint256 studyId) external view returns (address publisher, bytes32 outputDigest) {
        Study storage study = _in(studyId, Phase.Completed);
        return (study.publisher, study.outputDigest);
    }

    /// @notice Whether `owner` consented to study `studyId` with the dataset `datasetHash`.
    function consentedWith(uint256 studyId, address owner, bytes32 datasetHash) external view returns (bool) {
        address[] storage owners = _terms[studyId].owners;
        for (uint256 i = 0; i < owners.length; i++) {
            if (owners[i] == owner) return _parties[studyId][i + 1].datasetHash == datasetHash && datasetHash != 0;
        }
        return false;
    }

    /// @notice What a party commits to when it chooses `nonce`.
    function nonceCommitmentOf(address party, bytes32 specHash, bytes32 nonce) public pure returns (bytes32) {
        return keccak256(abi.encode(party, specHash, nonce));
    }

    /// @notice EIP-712 digest that an owner signs; its deadline is the consent deadline of the terms.
    function consentDigest(uint256 studyId, bytes32 datasetHash, bytes32 nonceCommitment)
        public
        view
        returns (bytes32)
    {
        Terms storage terms = _terms[studyId];
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    CONSENT_TYPEHASH,
                    studyId,
                    terms.specHash,
                    datasetHash,
                    nonceCommitment,
                    uint256(terms.consentDeadline)
                )
            )
        );
    }

    /// @notice EIP-712 digest that committee members sign.
    function resultDigest(uint256 studyId, uint256 attempt, bytes32 outputDigest) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(RESULT_TYPEHASH, studyId, attempt, outputDigest)));
    }

    // ------------------------------------------------------------------------------------------------ inside

    function _checkTerms(Terms calldata terms) private view {
        if (terms.specHash == 0) revert BadField("specHash");
        if (terms.algorithmHash == 0) revert BadField("algorithmHash");
        if (terms.resultParty == address(0)) revert BadField("resultParty");
        if (terms.owners.length == 0 || terms.owners.length > MAXIMUM_OWNERS) revert BadField("owners");
        for (uint256 i = 0; i < terms.owners.length; i++) {
            if (terms.owners[i] == address(0)) revert BadField("owners");
            for (uint256 j = 0; j < i; j++) {
                if (terms.owners[i] == terms.owners[j]) revert AlreadyDone(terms.owners[i]);
            }
        }
        if (terms.consentDeadline <= block.timestamp) revert TooLate(terms.consentDeadline);
        if (terms.consentDeadline > block.timestamp + LONGEST_WAIT) revert BadField("consentDeadline");
        if (terms.revealSeconds == 0 || terms.revealSeconds > LONGEST_WAIT) revert BadField("revealSeconds");
        if (terms.runSeconds == 0 || terms.runSeconds > LONGEST_WAIT) revert BadField("runSeconds");
        if (terms.challengeSeconds == 0 || terms.challengeSeconds > LONGEST_WAIT) revert BadField("challengeSeconds");
        if (terms.maximumAttempts == 0 || terms.maximumAttempts > MAXIMUM_ATTEMPTS) {
            revert BadField("maximumAttempts");
        }
    }

    function _existing(uint256 studyId) private view returns (Study storage study) {
        study = _studies[studyId];
        if (study.phase == Phase.None) revert Unknown(studyId);
    }

    function _in(uint256 studyId, Phase phase) private view returns (Study storage study) {
        study = _existing(studyId);
        if (study.phase != phase) revert WrongPhase(uint8(study.phase));
    }

    function _running(uint256 studyId, uint256 attempt) private view returns (Study storage study) {
        study = _in(studyId, Phase.Running);
        if (attempt != study.attempt) revert WrongAttempt(attempt, study.attempt);
    }

    function _ownerNumber(Terms storage terms, address owner) private view returns (uint256) {
        for (uint256 i = 0; i < terms.owners.length; i++) {
            if (terms.owners[i] == owner) return i + 1;
        }
        revert NotAllowed(owner);
    }

    function _account(Study storage study, Terms storage terms, uint256 party) private view returns (address) {
        return party == 0 ? study.publisher : terms.owners[party - 1];
    }

    function _position(Study storage study, address member) private view returns (uint256) {
        for (uint256 i = 0; i < COMMITTEE_SIZE; i++) {
            if (study.committee[i] == member) return i;
        }
        revert NotAllowed(member);
    }

    function _mayChallenge(Study storage study, Terms storage terms, address account) private view returns (bool) {
        if (account == study.publisher || account == terms.resultParty) return true;
        for (uint256 i = 0; i < terms.owners.length; i++) {
            if (terms.owners[i] == account) return true;
        }
        for (uint256 i = 0; i < COMMITTEE_SIZE; i++) {
            if (study.committee[i] == account) return true;
        }
        return false;
    }

    /// Who cannot be drawn: the parties, the result party, and who was excluded in an earlier attempt.
    function _barred(Study storage study, Terms storage terms) private view returns (address[] memory barred) {
        uint256 owners = terms.owners.length;
        uint256 excluded = study.excluded.length;
        barred = new address[](owners + excluded + 2);
        for (uint256 i = 0; i < owners; i++) {
            barred[i] = terms.owners[i];
        }
        for (uint256 i = 0; i < excluded; i++) {
            barred[owners + i] = study.excluded[i];
        }
        barred[owners + excluded] = study.publisher;
        barred[owners + excluded + 1] = terms.resultParty;
    }

    function _seed(uint256 studyId, uint256 parties, bytes32 entropy) private view returns (bytes32) {
        bytes32[] memory nonces = new bytes32[](parties);
        for (uint256 i = 0; i < parties; i++) {
            nonces[i] = _parties[studyId][i].nonce;
        }
        return keccak256(abi.encode(nonces, entropy));
    }

    function _signers(address[] memory committee, bytes32 digest, bytes[] calldata signatures)
        private
        view
        returns (address[] memory signers)
    {
        uint256 given = 0;
        for (uint256 i = 0; i < COMMITTEE_SIZE; i++) {
            if (signatures[i].length != 0) given++;
        }
        if (given < SIGNATURES_NEEDED) revert TooFewSignatures(given, SIGNATURES_NEEDED);
        signers = new address[](given);
        uint256 next = 0;
        for (uint256 i = 0; i < COMMITTEE_SIZE; i++) {
            if (signatures[i].length == 0) continue;
            if (!SignatureChecker.isValidSignatureNow(committee[i], digest, signatures[i])) {
                revert BadSignature(committee[i]);
            }
            signers[next++] = committee[i];
        }
    }

    /// Returns false where the hash was out of reach.
    function _capture(uint256 studyId, Study storage study) private returns (bool) {
        bytes32 entropy = Randomness.read(study.drawHeight);
        if (entropy == 0) return false;
        study.entropy = entropy;
        emit EntropyCaptured(studyId, study.drawHeight, entropy);
        return true;
    }

    function _reschedule(uint256 studyId, Study storage study) private {
        if (study.reschedules == MAXIMUM_RESCHEDULES) {
            _refund(studyId, study, "no draw");
            return;
        }
        study.reschedules += 1;
        Terms storage terms = _terms[studyId];
        _schedule(studyId, study, study.phase == Phase.Locked ? terms.revealSeconds : terms.runSeconds);
    }

    function _schedule(uint256 studyId, Study storage study, uint256 wait) private {
        study.drawHeight = (block.number + drawDelay).toUint64();
        study.deadline = (block.timestamp + wait).toUint64();
        emit DrawScheduled(studyId, study.attempt, study.drawHeight, study.deadline);
    }

    /// The running attempt is over without a result: unlock its committee, then draw again or give the money back.
    function _failAttempt(uint256 studyId, Study storage study, bytes32 reason) private {
        address[] memory committee = study.committee;
        delete study.committee;
        study.openChallenges = 0;
        emit AttemptFailed(studyId, study.attempt, reason);
        if (study.attempt + 1 < _terms[studyId].maximumAttempts) {
            study.attempt += 1;
            study.phase = Phase.Drawing;
            _schedule(studyId, study, _terms[studyId].runSeconds);
        } else {
            _refund(studyId, study, "no attempt left");
        }
        providers.unlock(committee);
    }

    /// The member's stake pays the owners and the publisher in equal parts.
    function _slash(uint256 studyId, Study storage study, address member) private returns (uint256 taken) {
        address[] storage owners = _terms[studyId].owners;
        address[] memory payees = new address[](owners.length + 1);
        for (uint256 i = 0; i < owners.length; i++) {
            payees[i] = owners[i];
        }
        payees[owners.length] = study.publisher;
        return providers.slash(member, slashShare, payees, study.publisher, studyId);
    }

    /// Everything goes back to who paid it.
    function _refund(uint256 studyId, Study storage study, bytes32 reason) private {
        Terms storage terms = _terms[studyId];
        study.phase = Phase.Ended;
        study.deadline = 0;
        uint256 rest = study.held;
        study.held = 0;
        for (uint256 i = 0; i < terms.owners.length; i++) {
            if (!_parties[studyId][i + 1].consented) continue;
            rest -= terms.bond;
            _credit(terms.owners[i], terms.bond, "bond", studyId);
        }
        _credit(study.publisher, rest, "escrow returned", studyId);
        emit Ended(studyId, reason);
    }

    /// Bonds of who did not open go in equal parts to who did; the remainder, and the fees, to the publisher. Where
    /// nobody opened, nobody can be told apart, and everything goes back.
    function _penalise(uint256 studyId, Study storage study) private {
        if (study.reveals == 0) {
            _refund(studyId, study, "no reveal");
            return;
        }
        Terms storage terms = _terms[studyId];
        study.phase = Phase.Ended;
        study.deadline = 0;
        uint256 parties = terms.owners.length + 1;
        uint256 forfeited = (parties - study.reveals) * uint256(terms.bond);
        uint256 rest = study.held;
        study.held = 0;
        for (uint256 i = 0; i < parties; i++) {
            if (!_parties[studyId][i].revealed) continue;
            address account = _account(study, terms, i);
            rest -= uint256(terms.bond) + forfeited / study.reveals;
            _credit(account, terms.bond, "bond", studyId);
            _credit(account, forfeited / study.reveals, "forfeited bond", studyId);
        }
        _credit(study.publisher, rest, "escrow returned", studyId);
        emit Ended(studyId, "no reveal");
    }
}
