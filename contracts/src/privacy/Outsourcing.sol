// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {AlreadyDone, BadField, BadSignature, LONGEST_WAIT, NotAllowed, TooEarly, TooLate, Unknown} from "../Common.sol";
import {Credits} from "../Credits.sol";

/// @title Outsourcing: encrypted work for strangers, each piece for several, paid by agreement, wrong answers charged
/// @notice Evaluating a ciphertext is deterministic, so honest workers sign the same answer to the same question. A
/// worker that joins puts up a bond. It loses it, once, for
///
/// - two different answers to the same question, which proves itself: the bond goes to the client;
/// - an answer other than the one that `agree` workers signed to the same question: the bond goes to the sink that was
///   named at deployment. Neither the client nor the other workers gain by it, because whoever plays all of them could
///   outvote an honest one: a worker joins only among others that it takes for independent, and the list is fixed.
///
/// A signature names the question, so a client that sends two questions for one piece proves nothing by two answers.
contract Outsourcing is Credits, EIP712 {
    /// @param workers who may join.
    /// @param pieces of the work; each is paid to at most `agree` workers.
    /// @param agree how many must sign the same answer.
    /// @param fee to each of them for a piece.
    /// @param bond put up by each worker that joins.
    /// @param deadline Unix seconds until which workers join and pieces are settled.
    /// @param claimSeconds after the deadline, in which wrong answers are charged; then everything left goes back.
    struct Terms {
        address[] workers;
        uint32 pieces;
        uint8 agree;
        uint128 fee;
        uint128 bond;
        uint64 deadline;
        uint32 claimSeconds;
    }

    struct Job {
        address client;
        uint32 settled;
        bool closed;
    }

    /// @param question, answer what was signed by enough workers; zero before.
    struct Piece {
        bytes32 question;
        bytes32 answer;
    }

    uint256 public constant MAXIMUM_WORKERS = 16;
    uint256 public constant MAXIMUM_PIECES = 100_000;
    bytes32 public constant ANSWER_TYPEHASH =
        keccak256("Answer(uint256 jobId,uint256 piece,bytes32 question,bytes32 answer)");

    /// @notice Receives the bonds of workers that were outvoted.
    address public immutable sink;
    /// @notice Number of jobs; their ids are 1 to `count`.
    uint256 public count;
    mapping(uint256 jobId => Job) private _jobs;
    mapping(uint256 jobId => Terms) private _terms;
    mapping(uint256 jobId => mapping(uint256 piece => Piece)) private _pieces;
    mapping(uint256 jobId => mapping(address worker => bool)) public isBonded;

    event Opened(uint256 indexed jobId, address indexed client);
    event Joined(uint256 indexed jobId, address indexed worker);
    event Settled(uint256 indexed jobId, uint256 indexed piece, bytes32 question, bytes32 answer);
    event Charged(uint256 indexed jobId, address indexed worker, uint256 piece, bytes32 reason);
    event Closed(uint256 indexed jobId);

    error TooFewSignatures(uint256 given, uint256 needed);

    constructor(IERC20 token_, address sink_) Credits(token_) EIP712("Koinon Outsourcing", "1") {
        if (sink_ == address(0)) revert BadField("sink");
        sink = sink_;
    }

    /// @notice Offer work; pulls `pieces * agree * fee`.
    function open(Terms calldata terms) external returns (uint256 jobId) {
        if (terms.workers.length < 2 || terms.workers.length > MAXIMUM_WORKERS) revert BadField("workers");
        for (uint256 i = 0; i < terms.workers.length; i++) {
            if (terms.workers[i] == address(0) || terms.workers[i] == msg.sender) revert BadField("workers");
            for (uint256 j = 0; j < i; j++) {
                if (terms.workers[i] == terms.workers[j]) revert AlreadyDone(terms.workers[i]);
            }
        }
        if (terms.pieces == 0 || terms.pieces > MAXIMUM_PIECES) revert BadField("pieces");
        if (terms.agree < 2 || terms.agree > terms.workers.length) revert BadField("agree");
        if (terms.fee > type(uint96).max) revert BadField("fee");
        if (terms.deadline <= block.timestamp) revert TooLate(terms.deadline);
        if (terms.deadline > block.timestamp + LONGEST_WAIT) revert BadField("deadline");
        if (terms.claimSeconds == 0 || terms.claimSeconds > LONGEST_WAIT) revert BadField("claimSeconds");
        jobId = ++count;
        _jobs[jobId].client = msg.sender;
        _terms[jobId] = terms;
        emit Opened(jobId, msg.sender);
        _pull(msg.sender, uint256(terms.pieces) * terms.agree * terms.fee);
    }

    /// @notice Put up the bond: from now on wrong answers cost it.
    function join(uint256 jobId) external {
        Terms storage terms = _terms[jobId];
        _existing(jobId);
        if (block.timestamp > terms.deadline) revert TooLate(terms.deadline);
        if (!_isNamed(terms, msg.sender)) revert NotAllowed(msg.sender);
        if (isBonded[jobId][msg.sender]) revert AlreadyDone(msg.sender);
        isBonded[jobId][msg.sender] = true;
        emit Joined(jobId, msg.sender);
        _pull(msg.sender, terms.bond);
    }

    /// @notice Pay the first `agree` bonded workers that signed this answer. Anyone may relay the signatures.
    /// @param signatures one for each worker, in the order of the terms; empty where it did not sign.
    function settle(uint256 jobId, uint256 piece, bytes32 question, bytes32 answer, bytes[] calldata signatures)
        external
    {
        Job storage job = _existing(jobId);
        Terms storage terms = _terms[jobId];
        if (block.timestamp > terms.deadline) revert TooLate(terms.deadline);
        if (piece >= terms.pieces) revert BadField("piece");
        if (question == 0 || answer == 0) revert BadField("answer");
        if (signatures.length != terms.workers.length) revert BadField("signatures");
        if (_pieces[jobId][piece].answer != 0) revert AlreadyDone(job.client);
        _pieces[jobId][piece] = Piece(question, answer);
        job.settled += 1;
        emit Settled(jobId, piece, question, answer);
        bytes32 digest = answerDigest(jobId, piece, question, answer);
        uint256 paid = 0;
        for (uint256 i = 0; i < signatures.length && paid < terms.agree; i++) {
            if (signatures[i].length == 0) continue;
            address worker = terms.workers[i];
            if (!isBonded[jobId][worker]) revert NotAllowed(worker);
            if (!SignatureChecker.isValidSignatureNow(worker, digest, signatures[i])) revert BadSignature(worker);
            paid += 1;
            _credit(worker, terms.fee, "piece", jobId);
        }
        if (paid < terms.agree) revert TooFewSignatures(paid, terms.agree);
    }

    /// @notice Two different answers of one worker to the same question: its bond goes to the client.
    function contradict(
        uint256 jobId,
        uint256 piece,
        address worker,
        bytes32 question,
        bytes32 oneAnswer,
        bytes32 otherAnswer,
        bytes calldata oneSignature,
        bytes calldata otherSignature
    ) external {
        Job storage job = _chargeable(jobId, worker);
        if (oneAnswer == otherAnswer) revert BadField("otherAnswer");
        _checkSigned(jobId, piece, worker, question, oneAnswer, oneSignature);
        _checkSigned(jobId, piece, worker, question, otherAnswer, otherSignature);
        _charge(jobId, piece, worker, job.client, "contradiction");
    }

    /// @notice An answer to a settled question other than the one that was settled: the bond goes to the sink.
    function outvote(uint256 jobId, uint256 piece, address worker, bytes32 answer, bytes calldata signature) external {
        _chargeable(jobId, worker);
        Piece storage settled = _pieces[jobId][piece];
        if (settled.answer == 0) revert Unknown(piece);
        if (settled.answer == answer) revert BadField("answer");
        _checkSigned(jobId, piece, worker, settled.question, answer, signature);
        _charge(jobId, piece, worker, sink, "outvoted");
    }

    /// @notice After the time for claims: what was not earned goes back to the client, bonds to those not charged.
    function close(uint256 jobId) external {
        Job storage job = _existing(jobId);
        Terms storage terms = _terms[jobId];
        if (job.closed) revert AlreadyDone(job.client);
        uint256 claimable = uint256(terms.deadline) + terms.claimSeconds;
        if (block.timestamp <= claimable) revert TooEarly(claimable);
        job.closed = true;
        emit Closed(jobId);
        uint256 rest = uint256(terms.pieces - job.settled) * terms.agree * terms.fee;
        _credit(job.client, rest, "work not done", jobId);
        for (uint256 i = 0; i < terms.workers.length; i++) {
            address worker = terms.workers[i];
            if (!isBonded[jobId][worker]) continue;
            isBonded[jobId][worker] = false;
            _credit(worker, terms.bond, "bond", jobId);
        }
    }

    function jobOf(uint256 jobId) external view returns (Job memory) {
        return _existing(jobId);
    }

    function termsOf(uint256 jobId) external view returns (Terms memory) {
        _existing(jobId);
        return _terms[jobId];
    }

    function pieceOf(uint256 jobId, uint256 piece) external view returns (Piece memory) {
        return _pieces[jobId][piece];
    }

    /// @notice EIP-712 digest that a worker signs for an answer.
    function answerDigest(uint256 jobId, uint256 piece, bytes32 question, bytes32 answer)
        public
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(keccak256(abi.encode(ANSWER_TYPEHASH, jobId, piece, question, answer)));
    }

    function _existing(uint256 jobId) private view returns (Job storage job) {
        job = _jobs[jobId];
        if (job.client == address(0)) revert Unknown(jobId);
    }

    function _isNamed(Terms storage terms, address account) private view returns (bool) {
        for (uint256 i = 0; i < terms.workers.length; i++) {
            if (terms.workers[i] == account) return true;
        }
        return false;
    }

    /// A bonded worker of a job whose bonds are still here.
    function _chargeable(uint256 jobId, address worker) private view returns (Job storage job) {
        job = _existing(jobId);
        if (!isBonded[jobId][worker]) revert NotAllowed(worker);
    }

    function _checkSigned(
        uint256 jobId,
        uint256 piece,
        address worker,
        bytes32 question,
        bytes32 answer,
        bytes calldata signature
    ) private view {
        bytes32 digest = answerDigest(jobId, piece, question, answer);
        if (!SignatureChecker.isValidSignatureNow(worker, digest, signature)) revert BadSignature(worker);
    }

    function _charge(uint256 jobId, uint256 piece, address worker, address payee, bytes32 reason) private {
        isBonded[jobId][worker] = false;
        emit Charged(jobId, worker, piece, reason);
        _credit(payee, _terms[jobId].bond, reason, jobId);
    }
}
