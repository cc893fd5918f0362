// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Bn254} from "./Bn254.sol";

/// @title Additive ElGamal on BN254: sums of encrypted numbers, ballots of 0 or 1, shares of an opening
/// @dev Ciphertexts and proofs are those of `koinon.crypto.elgamal`, which cites the papers. Points given to `add`,
/// `scale` and `combine` must have been checked; the verifying functions check theirs.
library Elgamal {
    using Bn254 for Bn254.Point;

    /// r·G and m·G + r·P for a number m under the key P.
    struct Ciphertext {
        Bn254.Point first;
        Bn254.Point second;
    }

    /// Disjunctive Chaum-Pedersen proof that m is 0 or 1.
    struct BallotProof {
        uint256 challenge0;
        uint256 response0;
        uint256 challenge1;
        uint256 response1;
    }

    /// Chaum-Pedersen proof that a share has the logarithm of its verification key.
    struct ShareProof {
        uint256 challenge;
        uint256 response;
    }

    bytes32 internal constant BALLOT_DOMAIN = keccak256("koinon/elgamal/ballot/1");
    bytes32 internal constant SHARE_DOMAIN = keccak256("koinon/elgamal/share/1");

    function isCiphertext(Ciphertext memory ciphertext) internal pure returns (bool) {
        return ciphertext.first.isPoint() && ciphertext.second.isPoint();
    }

    function add(Ciphertext memory left, Ciphertext memory right) internal view returns (Ciphertext memory) {
        return Ciphertext(left.first.add(right.first), left.second.add(right.second));
    }

    function scale(Ciphertext memory ciphertext, uint256 factor) internal view returns (Ciphertext memory) {
        return Ciphertext(ciphertext.first.multiply(factor), ciphertext.second.multiply(factor));
    }

    /// Whether the ciphertext holds 0 or 1 under `key` and the proof was made for `context`.
    function verifyBallot(
        Bn254.Point memory key,
        Ciphertext memory ballot,
        bytes32 context,
        BallotProof memory proof
    ) internal view returns (bool) {
        if (!key.isPoint() || key.isIdentity() || !isCiphertext(ballot)) return false;
        if (proof.challenge0 >= Bn254.ORDER || proof.response0 >= Bn254.ORDER) return false;
        if (proof.challenge1 >= Bn254.ORDER || proof.response1 >= Bn254.ORDER) return false;
        Bn254.Point memory minusOne = ballot.second.subtract(Bn254.generator());
        bytes memory commitments = bytes.concat(
            _commitments(key, ballot.first, ballot.second, proof.challenge0, proof.response0),
            _commitments(key, ballot.first, minusOne, proof.challenge1, proof.response1)
        );
        bytes memory statement = bytes.concat(_encode(key), _encode(ballot.first), _encode(ballot.second));
        uint256 challenge = _challenge(BALLOT_DOMAIN, context, bytes.concat(statement, commitments));
        return addmod(proof.challenge0, proof.challenge1, Bn254.ORDER) == challenge;
    }

    /// Whether `share` is the multiple of `first` that the verification key stands for.
    function verifyShare(
        Bn254.Point memory key,
        Bn254.Point memory first,
        Bn254.Point memory share,
        bytes32 context,
        ShareProof memory proof
    ) internal view returns (bool) {
        if (!key.isPoint() || !first.isPoint() || !share.isPoint()) return false;
        if (proof.challenge >= Bn254.ORDER || proof.response >= Bn254.ORDER) return false;
        bytes memory commitments = _commitments(first, key, share, proof.challenge, proof.response);
        bytes memory statement = bytes.concat(_encode(key), _encode(first), _encode(share));
        return proof.challenge == _challenge(SHARE_DOMAIN, context, bytes.concat(statement, commitments));
    }

    /// m·G, from the shares of the trustees at `places` (from 1).
    function combine(Ciphertext memory ciphertext, Bn254.Point[] memory shares, uint256[] memory places)
        internal
        view
        returns (Bn254.Point memory)
    {
        return ciphertext.second.subtract(Bn254.interpolate(shares, places, 0));
    }

    /// z·G − c·X and z·Y − c·Z, which are the prover's commitments if X and Z have the same logarithm to G and Y.
    function _commitments(
        Bn254.Point memory base,
        Bn254.Point memory left,
        Bn254.Point memory right,
        uint256 challenge,
        uint256 response
    ) private view returns (bytes memory) {
        Bn254.Point memory first = Bn254.generator().multiply(response).subtract(left.multiply(challenge));
        Bn254.Point memory second = base.multiply(response).subtract(right.multiply(challenge));
        return bytes.concat(_encode(first), _encode(second));
    }

    function _challenge(bytes32 domain, bytes32 context, bytes memory points) private pure returns (uint256) {
        return uint256(keccak256(bytes.concat(domain, context, points))) % Bn254.ORDER;
    }

    function _encode(Bn254.Point memory point) private pure returns (bytes memory) {
        return abi.encode(point.x, point.y);
    }
}
