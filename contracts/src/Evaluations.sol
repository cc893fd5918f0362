// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Assets} from "./Assets.sol";
import {
    ALL_BASIS_POINTS,
    AlreadyDone,
    BadField,
    BadOpening,
    EVALUATE,
    EntropyOutOfReach,
    Kind,
    LONGEST_WAIT,
    MAXIMUM_RESCHEDULES,
    NotAllowed,
    TooEarly,
    TooLate,
    Unknown,
    WrongPhase
} from "./Common.sol";
import {Credits} from "./Credits.sol";
import {Consensus, Score} from "./Consensus.sol";
import {Providers} from "./Providers.sol";
import {Randomness} from "./Randomness.sol";

/// @title Evaluations: drawn evaluators commit, reveal, and agree on a trust vector
/// @notice The life of a request:
///
///     Requested ──draw──▶ Committing ──all commit, or time──▶ Revealing ──finalise──▶ Finalised, or Ended
///
/// The seed is `keccak256(abi.encode(nonce, entropy))`, with the requester's nonce committed at the request and the hash
/// of a later block. A requester that does not open its nonce in time cannot walk away from a draw it dislikes: the
/// draw then goes on with the commitment in the nonce's place. (That leaves it a choice between two draws, in public.)
/// Scores are in parts per million of the criterion's unit.
contract Evaluations is Credits {
    using SafeCast for uint256;

    enum Phase {
        None,
        Requested,
        Committing,
        Revealing,
        Finalised,
        Ended
    }

    /// @param criteria short ASCII names, such as "auc".
    /// @param tolerances for each criterion, how far from the median an interval may end without being wilful.
    /// @param fee paid to each evaluator that reveals and is no wilful outlier.
    struct Terms {
        uint256 modelId;
        bytes32[] criteria;
        uint64[] tolerances;
        uint128 fee;
        uint8 evaluators;
        uint32 commitSeconds;
        uint32 revealSeconds;
    }

    /// @param deadline of the current phase, Unix seconds.
    /// @param nonceDeadline until then only the requester's nonce draws.
    struct Request {
        address requester;
        Phase phase;
        uint8 reschedules;
        uint8 commits;
        uint8 reveals;
        uint64 drawHeight;
        uint64 deadline;
        uint64 nonceDeadline;
        uint128 held;
        bytes32 nonceCommitment;
        bytes32 entropy;
        bytes32 seed;
        address[] evaluators;
    }

    struct Report {
        bytes32 commitment;
        bytes32 evidenceHash;
        bool revealed;
        Score[] scores;
    }

    /// What the reveals of a request come to.
    struct Outcome {
        address[] revealed;
        bool[] outliers;
        Score[] vector;
        bool agreed;
    }

    uint256 public constant MINIMUM_EVALUATORS = 3;
    uint256 public constant MAXIMUM_EVALUATORS = 9;
    uint256 public constant MAXIMUM_CRITERIA = 32;
    uint256 public constant REVEALS_NEEDED = 2;

    Providers public immutable providers;
    Assets public immutable assets;
    uint256 public immutable drawDelay;
    /// @notice Parts of the stake lost by a wilful outlier and by who was drawn and stayed away, in basis points.
    uint256 public immutable outlierShare;
    uint256 public immutable absentShare;

    /// @notice Number of requests; their ids are 1 to `count`.
    uint256 public count;
    mapping(uint256 requestId => Request) private _requests;
    mapping(uint256 requestId => Terms) private _terms;
    mapping(uint256 requestId => Score[]) private _vectors;
    mapping(uint256 requestId => mapping(address evaluator => Report)) private _reports;

    event Requested(
        uint256 indexed requestId,
        uint256 indexed modelId,
        address indexed requester,
        bytes32 nonceCommitment,
        uint256 drawHeight,
        uint256 nonceDeadline
    );
    event DrawScheduled(uint256 indexed requestId, uint256 drawHeight, uint256 nonceDeadline);
    event EntropyCaptured(uint256 indexed requestId, uint256 height, bytes32 entropy);
    /// @param nonce the commitment itself where the requester did not open it.
    event Drawn(uint256 indexed requestId, bytes32 nonce, bytes32 seed, address[] evaluators, uint256 deadline);
    event Committed(uint256 indexed requestId, address indexed evaluator, bytes32 commitment);
    event RevealOpened(uint256 indexed requestId, uint256 deadline);
    event Revealed(uint256 indexed requestId, address indexed evaluator, bytes32 evidenceHash, Score[] scores);
    event Outlier(uint256 indexed requestId, address indexed evaluator, uint256 slashed);
    event Absent(uint256 indexed requestId, address indexed evaluator, uint256 slashed);
    event Finalised(uint256 indexed requestId, uint256 indexed modelId, Score[] vector);
    /// @param reason "no draw", "too few reveals" or "no agreement".
    event Ended(uint256 indexed requestId, bytes32 reason);

    constructor(
        IERC20 token_,
        Providers providers_,
        Assets assets_,
        uint256 drawDelay_,
        uint256 outlierShare_,
        uint256 absentShare_
    ) Credits(token_) {
        if (drawDelay_ == 0 || drawDelay_ > 128) revert BadField("drawDelay");
        if (outlierShare_ > ALL_BASIS_POINTS) revert BadField("outlierShare");
        if (absentShare_ > outlierShare_) revert BadField("absentShare");
        providers = providers_;
        assets = assets_;
        drawDelay = drawDelay_;
        outlierShare = outlierShare_;
        absentShare = absentShare_;
    }

    /// @notice Ask for an evaluation of a model. Pulls the fees from the caller.
    /// @param nonceCommitment `keccak256(abi.encode(requester, modelId, nonce))`.
    function request(Terms calldata terms, bytes32 nonceCommitment) external returns (uint256 requestId) {
        _checkTerms(terms);
        if (nonceCommitment == 0) revert BadField("nonceCommitment");
        requestId = ++count;
        Request storage entry = _requests[requestId];
        entry.requester = msg.sender;
        entry.phase = Phase.Requested;
        entry.nonceCommitment = nonceCommitment;
        uint256 escrow = uint256(terms.fee) * terms.evaluators;
        entry.held = escrow.toUint128();
        _terms[requestId] = terms;
        _schedule(entry, terms.commitSeconds, terms.revealSeconds);
        emit Requested(
            requestId, terms.modelId, msg.sender, nonceCommitment, entry.drawHeight, entry.nonceDeadline
        );
        _pull(msg.sender, escrow);
    }

    /// @notice Fix the block randomness once `drawHeight` has passed, or schedule anew where it is out of reach. Anyone
    /// may call it; `draw` does the first by itself.
    function capture(uint256 requestId) external {
        Request storage entry = _in(requestId, Phase.Requested);
        if (entry.entropy != 0) revert AlreadyDone(msg.sender);
        if (_capture(requestId, entry)) return;
        if (entry.reschedules == MAXIMUM_RESCHEDULES) {
            _end(requestId, entry, "no draw");
            return;
        }
        entry.reschedules += 1;
        _schedule(entry, _terms[requestId].commitSeconds, _terms[requestId].revealSeconds);
        emit DrawScheduled(requestId, entry.drawHeight, entry.nonceDeadline);
    }

    /// @notice Draw the evaluators. Anyone may relay the requester's nonce; after `nonceDeadline` anyone may draw with
    /// nonce 0, which stands for the commitment.
    function draw(uint256 requestId, bytes32 nonce) external {
        Request storage entry = _in(requestId, Phase.Requested);
        Terms storage terms = _terms[requestId];
        if (block.timestamp > entry.deadline) revert TooLate(entry.deadline);
        if (nonce == 0) {
            if (block.timestamp <= entry.nonceDeadline) revert TooEarly(entry.nonceDeadline);
            nonce = entry.nonceCommitment;
        } else if (nonceCommitmentOf(entry.requester, terms.modelId, nonce) != entry.nonceCommitment) {
            revert BadOpening(entry.requester);
        }
        if (entry.entropy == 0 && !_capture(requestId, entry)) revert EntropyOutOfReach(entry.drawHeight);
        bytes32 seed = keccak256(abi.encode(nonce, entry.entropy));
        entry.phase = Phase.Committing;
        entry.seed = seed;
        entry.deadline = (block.timestamp + terms.commitSeconds).toUint64();
        address[] memory evaluators = providers.draw(
            EVALUATE, seed, terms.evaluators, _barred(entry, terms.modelId), entry.drawHeight - drawDelay
        );
        entry.evaluators = evaluators;
        emit Drawn(requestId, nonce, seed, evaluators, entry.deadline);
    }

    /// @notice A drawn evaluator commits to `commitmentOf(requestId, itself, scores, evidenceHash, salt)`.
    function commit(uint256 requestId, bytes32 commitment) external {
        Request storage entry = _in(requestId, Phase.Committing);
        if (block.timestamp > entry.deadline) revert TooLate(entry.deadline);
        if (commitment == 0) revert BadField("commitment");
        if (!_isEvaluator(entry, msg.sender)) revert NotAllowed(msg.sender);
        Report storage report = _reports[requestId][msg.sender];
        if (report.commitment != 0) revert AlreadyDone(msg.sender);
        report.commitment = commitment;
        entry.commits += 1;
        emit Committed(requestId, msg.sender, commitment);
        if (entry.commits == entry.evaluators.length) _openReveals(requestId, entry, block.timestamp);
    }

    /// @notice A drawn evaluator opens its commitment, once all have committed or the time to commit is over.
    function reveal(uint256 requestId, Score[] calldata scores, bytes32 evidenceHash, bytes32 salt) external {
        Request storage entry = _existing(requestId);
        if (entry.phase == Phase.Committing) {
            if (block.timestamp <= entry.deadline) revert TooEarly(entry.deadline);
            _openReveals(requestId, entry, entry.deadline);
        }
        if (entry.phase != Phase.Revealing) revert WrongPhase(uint8(entry.phase));
        if (block.timestamp > entry.deadline) revert TooLate(entry.deadline);
        Report storage report = _reports[requestId][msg.sender];
        if (report.commitment == 0) revert NotAllowed(msg.sender);
        if (report.revealed) revert AlreadyDone(msg.sender);
        if (scores.length != _terms[requestId].criteria.length) revert BadField("scores");
        if (evidenceHash == 0) revert BadField("evidenceHash");
        if (commitmentOf(requestId, msg.sender, scores, evidenceHash, salt) != report.commitment) {
            revert BadOpening(msg.sender);
        }
        for (uint256 i = 0; i < scores.length; i++) {
            if (scores[i].low > scores[i].value || scores[i].value > scores[i].high) revert BadField("scores");
            report.scores.push(scores[i]);
        }
        report.revealed = true;
        report.evidenceHash = evidenceHash;
        entry.reveals += 1;
        emit Revealed(requestId, msg.sender, evidenceHash, scores);
    }

    /// @notice Compute the vector, pay, slash and close. Anyone may call it once everybody who committed has revealed,
    /// or the time for it is over.
    function finalise(uint256 requestId) external {
        Request storage entry = _existing(requestId);
        Phase phase = entry.phase;
        if (phase != Phase.Committing && phase != Phase.Revealing) revert WrongPhase(uint8(phase));
        bool over = block.timestamp > entry.deadline;
        if (phase == Phase.Committing) {
            if (!over) revert TooEarly(entry.deadline);
            uint256 latest = uint256(entry.deadline) + _terms[requestId].revealSeconds;
            if (entry.commits != 0 && block.timestamp <= latest) revert TooEarly(latest);
        } else if (!over && entry.reveals != entry.commits) {
            revert TooEarly(entry.deadline);
        }
        _finalise(requestId, entry);
    }

    /// @notice Nobody drew in time: the fees go back. Anyone may call it.
    function expire(uint256 requestId) external {
        Request storage entry = _in(requestId, Phase.Requested);
        if (block.timestamp <= entry.deadline) revert TooEarly(entry.deadline);
        _end(requestId, entry, "no draw");
    }

    function requestOf(uint256 requestId) external view returns (Request memory) {
        return _existing(requestId);
    }

    function termsOf(uint256 requestId) external view returns (Terms memory) {
        _existing(requestId);
        return _terms[requestId];
    }

    function reportOf(uint256 requestId, address evaluator) external view returns (Report memory) {
        _existing(requestId);
        return _reports[requestId][evaluator];
    }

    /// @notice Model and agreed vector of a finalised request. Reverts for any other.
    function vectorOf(uint256 requestId) external view returns (uint256 modelId, Score[] memory vector) {
        _in(requestId, Phase.Finalised);
        return (_terms[requestId].modelId, _vectors[requestId]);
    }

    function nonceCommitmentOf(address requester, uint256 modelId, bytes32 nonce) public pure returns (bytes32) {
        return keccak256(abi.encode(requester, modelId, nonce));
    }

    function commitmentOf(
        uint256 requestId,
        address evaluator,
        Score[] calldata scores,
        bytes32 evidenceHash,
        bytes32 salt
    ) public pure returns (bytes32) {
        return keccak256(abi.encode(requestId, evaluator, keccak256(abi.encode(scores)), evidenceHash, salt));
    }

    function _checkTerms(Terms calldata terms) private view {
        if (assets.kindOf(terms.modelId) != Kind.Model) revert BadField("modelId");
        if (terms.criteria.length == 0 || terms.criteria.length > MAXIMUM_CRITERIA) revert BadField("criteria");
        if (terms.tolerances.length != terms.criteria.length) revert BadField("tolerances");
        for (uint256 i = 0; i < terms.criteria.length; i++) {
            if (terms.criteria[i] == 0) revert BadField("criteria");
            if (terms.tolerances[i] > uint64(type(int64).max)) revert BadField("tolerances");
        }
        if (terms.evaluators < MINIMUM_EVALUATORS || terms.evaluators > MAXIMUM_EVALUATORS) {
            revert BadField("evaluators");
        }
        if (terms.commitSeconds == 0 || terms.commitSeconds > LONGEST_WAIT) revert BadField("commitSeconds");
        if (terms.revealSeconds == 0 || terms.revealSeconds > LONGEST_WAIT) revert BadField("revealSeconds");
    }

    function _existing(uint256 requestId) private view returns (Request storage entry) {
        entry = _requests[requestId];
        if (entry.phase == Phase.None) revert Unknown(requestId);
    }

    function _in(uint256 requestId, Phase phase) private view returns (Request storage entry) {
        entry = _existing(requestId);
        if (entry.phase != phase) revert WrongPhase(uint8(entry.phase));
    }

    function _isEvaluator(Request storage entry, address account) private view returns (bool) {
        for (uint256 i = 0; i < entry.evaluators.length; i++) {
            if (entry.evaluators[i] == account) return true;
        }
        return false;
    }

    /// Who earns from the model, and who asks, does not judge it.
    function _barred(Request storage entry, uint256 modelId) private view returns (address[] memory barred) {
        address[] memory interested = assets.interestedIn(modelId);
        barred = new address[](interested.length + 1);
        for (uint256 i = 0; i < interested.length; i++) {
            barred[i] = interested[i];
        }
        barred[interested.length] = entry.requester;
    }

    function _schedule(Request storage entry, uint256 commitSeconds, uint256 revealSeconds) private {
        entry.drawHeight = (block.number + drawDelay).toUint64();
        entry.nonceDeadline = (block.timestamp + revealSeconds).toUint64();
        entry.deadline = (block.timestamp + revealSeconds + commitSeconds).toUint64();
    }

    function _capture(uint256 requestId, Request storage entry) private returns (bool) {
        bytes32 entropy = Randomness.read(entry.drawHeight);
        if (entropy == 0) return false;
        entry.entropy = entropy;
        emit EntropyCaptured(requestId, entry.drawHeight, entropy);
        return true;
    }

    function _openReveals(uint256 requestId, Request storage entry, uint256 from) private {
        entry.phase = Phase.Revealing;
        entry.deadline = (from + _terms[requestId].revealSeconds).toUint64();
        emit RevealOpened(requestId, entry.deadline);
    }

    function _finalise(uint256 requestId, Request storage entry) private {
        address[] memory evaluators = entry.evaluators;
        Outcome memory outcome = _judge(requestId, entry, evaluators);
        entry.deadline = 0;
        entry.phase = outcome.agreed ? Phase.Finalised : Phase.Ended;
        _pay(requestId, entry, outcome);
        if (outcome.agreed) {
            _store(requestId, outcome.vector);
        } else if (outcome.revealed.length < REVEALS_NEEDED) {
            emit Ended(requestId, "too few reveals");
        } else {
            emit Ended(requestId, "no agreement");
        }
        providers.unlock(evaluators);
        _punish(requestId, entry.requester, evaluators, outcome);
    }

    function _judge(uint256 requestId, Request storage entry, address[] memory evaluators)
        private
        view
        returns (Outcome memory outcome)
    {
        Score[][] memory scores;
        (outcome.revealed, scores) = _revealed(requestId, entry.reveals, evaluators);
        if (outcome.revealed.length < REVEALS_NEEDED) return outcome;
        (outcome.vector, outcome.outliers, outcome.agreed) = Consensus.agree(scores, _terms[requestId].tolerances);
    }

    function _pay(uint256 requestId, Request storage entry, Outcome memory outcome) private {
        uint256 fee = _terms[requestId].fee;
        uint256 rest = entry.held;
        entry.held = 0;
        for (uint256 i = 0; i < outcome.revealed.length; i++) {
            if (outcome.agreed && outcome.outliers[i]) continue;
            rest -= fee;
            _credit(outcome.revealed[i], fee, "evaluation fee", requestId);
        }
        _credit(entry.requester, rest, "fee returned", requestId);
    }

    function _store(uint256 requestId, Score[] memory vector) private {
        for (uint256 i = 0; i < vector.length; i++) {
            _vectors[requestId].push(vector[i]);
        }
        emit Finalised(requestId, _terms[requestId].modelId, vector);
    }

    function _punish(uint256 requestId, address requester, address[] memory evaluators, Outcome memory outcome)
        private
    {
        for (uint256 i = 0; outcome.agreed && i < outcome.revealed.length; i++) {
            if (!outcome.outliers[i]) continue;
            address outlier = outcome.revealed[i];
            emit Outlier(requestId, outlier, _slash(outlier, outlierShare, requester, requestId));
        }
        for (uint256 i = 0; i < evaluators.length; i++) {
            if (_reports[requestId][evaluators[i]].revealed) continue;
            emit Absent(requestId, evaluators[i], _slash(evaluators[i], absentShare, requester, requestId));
        }
    }

    function _revealed(uint256 requestId, uint256 reveals, address[] memory evaluators)
        private
        view
        returns (address[] memory revealed, Score[][] memory scores)
    {
        revealed = new address[](reveals);
        scores = new Score[][](reveals);
        uint256 next = 0;
        for (uint256 i = 0; i < evaluators.length; i++) {
            Report storage report = _reports[requestId][evaluators[i]];
            if (!report.revealed) continue;
            revealed[next] = evaluators[i];
            scores[next] = report.scores;
            next++;
        }
    }

    /// The requester, whose answer came late or was spoilt, gets what is slashed.
    function _slash(address account, uint256 share, address requester, uint256 requestId) private returns (uint256) {
        return providers.slash(account, share, new address[](0), requester, requestId);
    }

    function _end(uint256 requestId, Request storage entry, bytes32 reason) private {
        uint256 rest = entry.held;
        entry.held = 0;
        entry.deadline = 0;
        entry.phase = Phase.Ended;
        _credit(entry.requester, rest, "fee returned", requestId);
        emit Ended(requestId, reason);
    }
}
