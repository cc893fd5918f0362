// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {AlreadyDone, BadField, BadSignature, LONGEST_WAIT, NotAllowed, TooEarly, TooLate, Unknown} from "../Common.sol";
import {Credits} from "../Credits.sol";
import {MerkleProof} from "./MerkleProof.sol";

/// @title Products of matrices, computed by one stranger, who loses a bond for a wrong one
/// @notice The terms commit to both matrices, the worker signs a commitment to the product, and the client finds out
/// off the chain whether it is right (Freivalds, MFCS 1979). If it is not, one of its numbers differs from the inner
/// product of a row and a column: these are shown here, and the sum is computed. Nobody has to be believed, and no
/// worker that signs nothing but right products for matrices it has seen can lose anything.
///
/// Numbers are words of 64 bits, big endian, in two's complement; sums are modulo 2^64. A matrix is committed to by the
/// root over its rows, the right one over its columns: see `MerkleProof`.
contract Products is Credits, EIP712 {
    /// @param worker who computes; it must have checked `left` and `right` before it joins.
    /// @param rows of the left matrix and of the product.
    /// @param inner columns of the left matrix, rows of the right one.
    /// @param columns of the right matrix and of the product.
    /// @param left, right roots over the left matrix's rows and the right one's columns.
    /// @param fee for the product.
    /// @param bond put up by the worker.
    /// @param deadline Unix seconds until which the worker joins and the product is paid for.
    /// @param claimSeconds after the deadline, in which a wrong product is charged; then everything left goes back.
    struct Terms {
        address worker;
        uint32 rows;
        uint32 inner;
        uint32 columns;
        bytes32 left;
        bytes32 right;
        uint128 fee;
        uint128 bond;
        uint64 deadline;
        uint32 claimSeconds;
    }

    /// @param bonded whether the worker's bond is here.
    struct Job {
        address client;
        bool bonded;
        bool charged;
        bool paid;
        bool closed;
    }

    /// @notice A number of a product and what it is to be the inner product of.
    /// @param row, column of the product, from 0.
    /// @param left the left matrix's row; @param right the right one's column; @param product the product's row.
    struct Cell {
        uint32 row;
        uint32 column;
        bytes left;
        bytes32[] leftProof;
        bytes right;
        bytes32[] rightProof;
        bytes product;
        bytes32[] productProof;
    }

    uint256 public constant MAXIMUM_SIZE = 4096;
    uint256 public constant MAXIMUM_ROWS = 65_536;
    bytes32 public constant PRODUCT_TYPEHASH = keccak256("Product(uint256 jobId,bytes32 product)");

    /// @notice Number of jobs; their ids are 1 to `count`.
    uint256 public count;
    mapping(uint256 jobId => Job) private _jobs;
    mapping(uint256 jobId => Terms) private _terms;

    event Opened(uint256 indexed jobId, address indexed client, address indexed worker);
    event Joined(uint256 indexed jobId);
    event Settled(uint256 indexed jobId, bytes32 product);
    event Refuted(uint256 indexed jobId, address indexed worker, uint256 row, uint256 column);
    event Closed(uint256 indexed jobId);

    constructor(IERC20 token_) Credits(token_) EIP712("Koinon Products", "1") {}

    /// @notice Offer work; pulls the fee.
    function open(Terms calldata terms) external returns (uint256 jobId) {
        if (terms.worker == address(0) || terms.worker == msg.sender) revert BadField("worker");
        if (terms.rows == 0 || terms.rows > MAXIMUM_ROWS) revert BadField("rows");
        if (terms.inner == 0 || terms.inner > MAXIMUM_SIZE) revert BadField("inner");
        if (terms.columns == 0 || terms.columns > MAXIMUM_SIZE) revert BadField("columns");
        if (terms.left == 0) revert BadField("left");
        if (terms.right == 0) revert BadField("right");
        if (terms.deadline <= block.timestamp) revert TooLate(terms.deadline);
        if (terms.deadline > block.timestamp + LONGEST_WAIT) revert BadField("deadline");
        if (terms.claimSeconds == 0 || terms.claimSeconds > LONGEST_WAIT) revert BadField("claimSeconds");
        jobId = ++count;
        _jobs[jobId].client = msg.sender;
        _terms[jobId] = terms;
        emit Opened(jobId, msg.sender, terms.worker);
        _pull(msg.sender, terms.fee);
    }

    /// @notice Put up the bond: from now on a wrong product costs it.
    function join(uint256 jobId) external {
        Job storage job = _existing(jobId);
        Terms storage terms = _terms[jobId];
        if (msg.sender != terms.worker) revert NotAllowed(msg.sender);
        if (block.timestamp > terms.deadline) revert TooLate(terms.deadline);
        if (job.bonded || job.charged) revert AlreadyDone(msg.sender);
        job.bonded = true;
        emit Joined(jobId);
        _pull(msg.sender, terms.bond);
    }

    /// @notice Pay for the product that the worker signed. Only the client knows whether it has it.
    function settle(uint256 jobId, bytes32 product, bytes calldata signature) external {
        Job storage job = _existing(jobId);
        Terms storage terms = _terms[jobId];
        if (msg.sender != job.client) revert NotAllowed(msg.sender);
        if (block.timestamp > terms.deadline) revert TooLate(terms.deadline);
        if (job.paid) revert AlreadyDone(job.client);
        if (!job.bonded) revert NotAllowed(terms.worker);
        _checkSigned(jobId, terms.worker, product, signature);
        job.paid = true;
        emit Settled(jobId, product);
        _credit(terms.worker, terms.fee, "product", jobId);
    }

    /// @notice Charge the worker for a product that it signed and of which one number is wrong: its bond goes to the
    /// client. Anyone may show it.
    function refute(uint256 jobId, bytes32 product, bytes calldata signature, Cell calldata cell) external {
        Job storage job = _existing(jobId);
        Terms storage terms = _terms[jobId];
        if (!job.bonded) revert NotAllowed(terms.worker);
        _checkSigned(jobId, terms.worker, product, signature);
        if (cell.column >= terms.columns) revert BadField("column");
        if (cell.left.length != 8 * uint256(terms.inner)) revert BadField("left");
        if (cell.right.length != 8 * uint256(terms.inner)) revert BadField("right");
        if (cell.product.length != 8 * uint256(terms.columns)) revert BadField("product");
        if (!MerkleProof.isLeaf(terms.left, cell.left, cell.row, terms.rows, cell.leftProof)) {
            revert BadField("leftProof");
        }
        if (!MerkleProof.isLeaf(terms.right, cell.right, cell.column, terms.columns, cell.rightProof)) {
            revert BadField("rightProof");
        }
        if (!MerkleProof.isLeaf(product, cell.product, cell.row, terms.rows, cell.productProof)) {
            revert BadField("productProof");
        }
        if (_innerProduct(cell.left, cell.right) == _word(cell.product, cell.column)) revert BadField("cell");
        job.bonded = false;
        job.charged = true;
        emit Refuted(jobId, terms.worker, cell.row, cell.column);
        _credit(job.client, terms.bond, "refuted", jobId);
    }

    /// @notice After the time for claims: the fee goes back to the client unless it was paid, the bond to the worker.
    function close(uint256 jobId) external {
        Job storage job = _existing(jobId);
        Terms storage terms = _terms[jobId];
        if (job.closed) revert AlreadyDone(job.client);
        uint256 claimable = uint256(terms.deadline) + terms.claimSeconds;
        if (block.timestamp <= claimable) revert TooEarly(claimable);
        bool bonded = job.bonded;
        job.closed = true;
        job.bonded = false;
        emit Closed(jobId);
        if (!job.paid) _credit(job.client, terms.fee, "work not done", jobId);
        if (bonded) _credit(terms.worker, terms.bond, "bond", jobId);
    }

    function jobOf(uint256 jobId) external view returns (Job memory) {
        return _existing(jobId);
    }

    function termsOf(uint256 jobId) external view returns (Terms memory) {
        _existing(jobId);
        return _terms[jobId];
    }

    /// @notice EIP-712 digest that the worker signs for a product's root.
    function productDigest(uint256 jobId, bytes32 product) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(PRODUCT_TYPEHASH, jobId, product)));
    }

    function _existing(uint256 jobId) private view returns (Job storage job) {
        job = _jobs[jobId];
        if (job.client == address(0)) revert Unknown(jobId);
    }

    function _checkSigned(uint256 jobId, address worker, bytes32 product, bytes calldata signature) private view {
        if (!SignatureChecker.isValidSignatureNow(worker, productDigest(jobId, product), signature)) {
            revert BadSignature(worker);
        }
    }

    /// Both have the same number of words; the sum of at most 4096 products of 128 bits does not overflow.
    function _innerProduct(bytes calldata left, bytes calldata right) private pure returns (uint64) {
        uint256 sum = 0;
        for (uint256 i = 0; i < left.length / 8; i++) {
            unchecked {
                sum += uint256(_word(left, i)) * _word(right, i);
            }
        }
        return uint64(sum);
    }

    function _word(bytes calldata words, uint256 index) private pure returns (uint64) {
        return uint64(bytes8(words[8 * index:8 * index + 8]));
    }
}
