// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Bn254} from "./Bn254.sol";
import {Elgamal} from "./Elgamal.sol";

/// @title A vote of yes or no in which only the sum is ever opened
/// @notice Ballots are encrypted under a key that the trustees hold together: `threshold` of them open the sum, and
/// fewer learn nothing. Every ballot proves that it is 0 or 1, every share of the opening that it is right. As many
/// trustees as the threshold could open single ballots too if they all conspired. Nobody's money is held.
contract EncryptedTally {
    using Bn254 for Bn254.Point;

    error BadTerms();
    error BadKeys();
    error NotAVoter();
    error NotATrustee();
    error AlreadyDone();
    error NotNow();
    error BadProof();
    error WrongTotal();

    event Voted(address indexed voter, Elgamal.Ciphertext ballot);
    event Shared(address indexed trustee, Bn254.Point share);
    event Opened(uint256 yes, uint256 ballots);

    uint256 public constant MOST_TRUSTEES = 16;

    bytes32 public immutable question;
    uint256 public immutable closes;
    uint256 public immutable threshold;
    Bn254.Point private _key;
    Elgamal.Ciphertext private _sum;
    uint256 public ballots;
    bool public isOpen;
    uint256 public yes;

    address[] public trustees;
    Bn254.Point[] private _verificationKeys;
    mapping(address => bool) public mayVote;
    uint256[] private _places;
    Bn254.Point[] private _shares;
    mapping(address => bool) public hasShared;

    /// @param question_ Hash of the text that is voted on.
    /// @param closes_ Unix time from which on no ballot is taken.
    /// @param key What ballots are encrypted under.
    /// @param verificationKeys What each trustee's share is checked against. They must belong to one key with this
    /// threshold: the contract checks that all lie on one polynomial of that degree with `key` at zero.
    constructor(
        bytes32 question_,
        uint256 closes_,
        uint256 threshold_,
        Bn254.Point memory key,
        address[] memory trustees_,
        Bn254.Point[] memory verificationKeys,
        address[] memory voters
    ) {
        uint256 count = trustees_.length;
        if (closes_ <= block.timestamp || threshold_ == 0 || threshold_ > count || count > MOST_TRUSTEES) {
            revert BadTerms();
        }
        if (verificationKeys.length != count) revert BadTerms();
        question = question_;
        closes = closes_;
        threshold = threshold_;
        _checkKeys(key, verificationKeys, threshold_);
        _key = key;
        for (uint256 i = 0; i < count; i++) {
            for (uint256 j = 0; j < i; j++) {
                if (trustees_[i] == trustees_[j]) revert BadTerms();
            }
            trustees.push(trustees_[i]);
            _verificationKeys.push(verificationKeys[i]);
        }
        for (uint256 i = 0; i < voters.length; i++) {
            if (mayVote[voters[i]]) revert BadTerms();
            mayVote[voters[i]] = true;
        }
    }

    /// What the proofs of `who` must be made for: nobody else's, in no other vote.
    function contextOf(address who) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), who));
    }

    function key_() external view returns (Bn254.Point memory) {
        return _key;
    }

    function sum() external view returns (Elgamal.Ciphertext memory) {
        return _sum;
    }

    function vote(Elgamal.Ciphertext calldata ballot, Elgamal.BallotProof calldata proof) external {
        if (block.timestamp >= closes) revert NotNow();
        if (!mayVote[msg.sender]) revert NotAVoter();
        if (!Elgamal.verifyBallot(_key, ballot, contextOf(msg.sender), proof)) revert BadProof();
        mayVote[msg.sender] = false;
        ballots++;
        _sum = Elgamal.add(_sum, ballot);
        emit Voted(msg.sender, ballot);
    }

    /// A trustee's share of opening the sum, once no ballot can come any more.
    function share(Bn254.Point calldata part, Elgamal.ShareProof calldata proof) external {
        if (block.timestamp < closes) revert NotNow();
        if (hasShared[msg.sender]) revert AlreadyDone();
        uint256 place = _placeOf(msg.sender);
        Bn254.Point memory own = _verificationKeys[place - 1];
        if (!Elgamal.verifyShare(own, _sum.first, part, contextOf(msg.sender), proof)) revert BadProof();
        hasShared[msg.sender] = true;
        if (_places.length < threshold) {
            _places.push(place);
            _shares.push(part);
        }
        emit Shared(msg.sender, part);
    }

    /// Anybody may say what the sum is; the shares show whether it is true.
    function open(uint256 total) external {
        if (isOpen) revert AlreadyDone();
        if (block.timestamp < closes || _places.length < threshold) revert NotNow();
        if (total > ballots) revert WrongTotal();
        Bn254.Point memory opened = Elgamal.combine(_sum, _shares, _places);
        if (!opened.equal(Bn254.generator().multiply(total))) revert WrongTotal();
        isOpen = true;
        yes = total;
        emit Opened(total, ballots);
    }

    function _placeOf(address who) private view returns (uint256) {
        for (uint256 i = 0; i < trustees.length; i++) {
            if (trustees[i] == who) return i + 1;
        }
        revert NotATrustee();
    }

    function _checkKeys(Bn254.Point memory key, Bn254.Point[] memory keys, uint256 needed) private view {
        key.check();
        if (key.isIdentity()) revert BadKeys();
        Bn254.Point[] memory first = new Bn254.Point[](needed);
        uint256[] memory places = new uint256[](needed);
        for (uint256 i = 0; i < keys.length; i++) {
            keys[i].check();
            if (i < needed) (first[i], places[i]) = (keys[i], i + 1);
        }
        if (!Bn254.interpolate(first, places, 0).equal(key)) revert BadKeys();
        for (uint256 i = needed; i < keys.length; i++) {
            if (!Bn254.interpolate(first, places, i + 1).equal(keys[i])) revert BadKeys();
        }
    }
}
