// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {ERC2981} from "@openzeppelin/contracts/token/common/ERC2981.sol";
import {ALL_BASIS_POINTS, BadField, Kind, NotAllowed, Unknown} from "./Common.sol";
import {Credits} from "./Credits.sol";
import {Studies} from "./Studies.sol";

/// @title Assets: datasets, models and services as ERC-721 tokens with provenance and revenue split
/// @notice What provenance means here:
/// - every parent exists, and the edges never change;
/// - where `studyId` is given, the study is completed, the minter was its publisher, and each parent that is a dataset
///   was minted by an owner who consented to that study with exactly that content hash;
/// - where `studyId` is 0, the edges are no more than the minter's own claim;
/// - a service has a model of the minter's among its parents.
contract Assets is Credits, ERC721, ERC2981 {
    /// @param contentHash dataset: root of its commitment; model: hash of its weights or package; service: hash of its
    /// description.
    /// @param shares of each payee in basis points; they add up to 10,000.
    /// @param codeHash hash of the code that made it; zero where none did.
    /// @param royalty ERC-2981 royalty to the publisher in basis points.
    struct Mint {
        Kind kind;
        bytes32 contentHash;
        string uri;
        uint256[] parents;
        address[] payees;
        uint16[] shares;
        bytes32 codeHash;
        uint256 studyId;
        uint96 royalty;
    }

    struct Asset {
        address publisher;
        Kind kind;
        uint64 mintedAt;
        bytes32 contentHash;
        bytes32 codeHash;
        uint256 studyId;
        string uri;
        uint256[] parents;
        address[] payees;
        uint16[] shares;
    }

    /// @param head keccak256 chain over the commitments: `head = keccak256(head ‖ commitment)`, from zero.
    struct Notes {
        uint64 count;
        bytes32 head;
    }

    uint256 public constant MAXIMUM_PARENTS = 64;
    uint256 public constant MAXIMUM_PAYEES = 64;
    uint256 public constant MAXIMUM_URI_BYTES = 512;
    uint256 public constant MAXIMUM_NOTES = 64;

    Studies public immutable studies;
    /// @notice Number of assets; their ids are 1 to `count`.
    uint256 public count;
    mapping(uint256 assetId => Asset) private _assets;
    mapping(uint256 assetId => Notes) private _notes;

    event Minted(
        uint256 indexed assetId,
        address indexed publisher,
        Kind indexed kind,
        bytes32 contentHash,
        uint256 studyId,
        bytes32 codeHash,
        uint256[] parents
    );
    event SplitSet(uint256 indexed assetId, address[] payees, uint16[] shares);
    event Distributed(uint256 indexed assetId, address indexed from, uint256 amount, uint256 remainder);

    event Noted(uint256 indexed assetId, uint256 sequence, bytes32 commitment, bytes32 head);

    error ForeignProvenance(uint256 parent);
    error NotesMoved(uint256 count);

    constructor(IERC20 token_, Studies studies_) Credits(token_) ERC721("Koinon Asset", "KASSET") {
        studies = studies_;
    }

    /// @notice Mint an asset to the caller, who is its publisher for ever.
    function mint(Mint calldata request) external returns (uint256 assetId) {
        _check(request);
        _checkProvenance(request);
        assetId = ++count;
        Asset storage asset = _assets[assetId];
        asset.publisher = msg.sender;
        asset.kind = request.kind;
        asset.mintedAt = uint64(block.timestamp);
        asset.contentHash = request.contentHash;
        asset.codeHash = request.codeHash;
        asset.studyId = request.studyId;
        asset.uri = request.uri;
        asset.parents = request.parents;
        asset.payees = request.payees;
        asset.shares = request.shares;
        if (request.royalty != 0) _setTokenRoyalty(assetId, msg.sender, request.royalty);
        emit Minted(
            assetId,
            msg.sender,
            request.kind,
            request.contentHash,
            request.studyId,
            request.codeHash,
            request.parents
        );
        emit SplitSet(assetId, request.payees, request.shares);
        // _mint, not _safeMint: the caller asked for it, and a callback here could re-enter.
        _mint(msg.sender, assetId);
    }

    /// @notice Append commitments to what an asset's publisher keeps an account of, such as the answers given from a
    /// data set; nothing can be taken back, left out or put in between.
    /// @param sequence how many there are already; a call that was sent twice changes nothing.
    function note(uint256 assetId, uint256 sequence, bytes32[] calldata commitments) external {
        if (_existing(assetId).publisher != msg.sender) revert NotAllowed(msg.sender);
        Notes storage notes = _notes[assetId];
        if (sequence != notes.count) revert NotesMoved(notes.count);
        if (commitments.length == 0 || commitments.length > MAXIMUM_NOTES) revert BadField("commitments");
        bytes32 head = notes.head;
        for (uint256 i = 0; i < commitments.length; i++) {
            head = keccak256(abi.encode(head, commitments[i]));
            emit Noted(assetId, sequence + i, commitments[i], head);
        }
        notes.count += uint64(commitments.length);
        notes.head = head;
    }

    /// @notice How many commitments an asset has, and the head of their chain.
    function notesOf(uint256 assetId) external view returns (Notes memory) {
        _existing(assetId);
        return _notes[assetId];
    }

    /// @notice Pull `amount` from the caller and credit it to the payees by their shares, the remainder of the
    /// division to the publisher.
    function distribute(uint256 assetId, uint256 amount) external {
        Asset storage asset = _existing(assetId);
        if (amount == 0) revert BadField("amount");
        _hold(amount);
        uint256 rest = amount;
        for (uint256 i = 0; i < asset.payees.length; i++) {
            uint256 part = (amount * asset.shares[i]) / ALL_BASIS_POINTS;
            rest -= part;
            _credit(asset.payees[i], part, "revenue", assetId);
        }
        _credit(asset.publisher, rest, "remainder", assetId);
        emit Distributed(assetId, msg.sender, amount, rest);
        _collect(msg.sender, amount);
    }

    function assetOf(uint256 assetId) external view returns (Asset memory) {
        return _existing(assetId);
    }

    function kindOf(uint256 assetId) external view returns (Kind) {
        return _existing(assetId).kind;
    }

    function publisherOf(uint256 assetId) external view returns (address) {
        return _existing(assetId).publisher;
    }

    /// @notice Everybody who earns from the asset: publisher, present owner, payees. None of them may judge it.
    function interestedIn(uint256 assetId) external view returns (address[] memory interested) {
        Asset storage asset = _existing(assetId);
        uint256 payees = asset.payees.length;
        interested = new address[](payees + 2);
        for (uint256 i = 0; i < payees; i++) {
            interested[i] = asset.payees[i];
        }
        interested[payees] = asset.publisher;
        interested[payees + 1] = ownerOf(assetId);
    }

    function tokenURI(uint256 assetId) public view override returns (string memory) {
        return _existing(assetId).uri;
    }

    function supportsInterface(bytes4 interfaceId) public view override(ERC721, ERC2981) returns (bool) {
        return super.supportsInterface(interfaceId);
    }

    function _existing(uint256 assetId) private view returns (Asset storage asset) {
        asset = _assets[assetId];
        if (asset.publisher == address(0)) revert Unknown(assetId);
    }

    function _check(Mint calldata request) private pure {
        if (request.contentHash == 0) revert BadField("contentHash");
        if (bytes(request.uri).length > MAXIMUM_URI_BYTES) revert BadField("uri");
        if (request.parents.length > MAXIMUM_PARENTS) revert BadField("parents");
        if (request.royalty > ALL_BASIS_POINTS) revert BadField("royalty");
        if (request.payees.length == 0 || request.payees.length > MAXIMUM_PAYEES) revert BadField("payees");
        if (request.shares.length != request.payees.length) revert BadField("shares");
        uint256 total = 0;
        for (uint256 i = 0; i < request.payees.length; i++) {
            if (request.payees[i] == address(0)) revert BadField("payees");
            if (request.shares[i] == 0) revert BadField("shares");
            total += request.shares[i];
        }
        if (total != ALL_BASIS_POINTS) revert BadField("shares");
    }

    function _checkProvenance(Mint calldata request) private view {
        if (request.studyId != 0) {
            (address publisher,) = studies.resultOf(request.studyId);
            if (publisher != msg.sender) revert NotAllowed(msg.sender);
        }
        bool ownModel = false;
        for (uint256 i = 0; i < request.parents.length; i++) {
            uint256 parent = request.parents[i];
            Asset storage asset = _existing(parent);
            if (asset.kind == Kind.Model && ownerOf(parent) == msg.sender) ownModel = true;
            if (
                request.studyId != 0 && asset.kind == Kind.Dataset
                    && !studies.consentedWith(request.studyId, asset.publisher, asset.contentHash)
            ) revert ForeignProvenance(parent);
        }
        if (request.kind == Kind.Service && !ownModel) revert BadField("parents");
    }
}
