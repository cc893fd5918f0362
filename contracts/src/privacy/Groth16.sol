// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Bn254} from "./Bn254.sol";

/// @title Checking Groth16 proofs over BN254 (Groth 2016) for any circuit's key
/// @dev Whoever made a key can forge proofs for it if they kept the randomness of its set-up.
library Groth16 {
    using Bn254 for Bn254.Point;

    /// `inputs` has one point for the constant and one for each public input.
    struct VerifyingKey {
        Bn254.Point alpha;
        Bn254.SecondPoint beta;
        Bn254.SecondPoint gamma;
        Bn254.SecondPoint delta;
        Bn254.Point[] inputs;
    }

    struct Proof {
        Bn254.Point a;
        Bn254.SecondPoint b;
        Bn254.Point c;
    }

    /// False as well for another number of inputs than the key has, an input not below the order, points that are none.
    function verify(VerifyingKey memory key, Proof memory proof, uint256[] memory inputs)
        internal
        view
        returns (bool)
    {
        if (inputs.length + 1 != key.inputs.length || !proof.a.isPoint() || !proof.c.isPoint()) return false;
        if (!key.alpha.isPoint() || !key.inputs[0].isPoint()) return false;
        Bn254.Point memory total = key.inputs[0];
        for (uint256 i = 0; i < inputs.length; i++) {
            if (inputs[i] >= Bn254.ORDER || !key.inputs[i + 1].isPoint()) return false;
            total = total.add(key.inputs[i + 1].multiply(inputs[i]));
        }
        Bn254.Point[] memory first = new Bn254.Point[](4);
        Bn254.SecondPoint[] memory second = new Bn254.SecondPoint[](4);
        (first[0], second[0]) = (proof.a.negate(), proof.b);
        (first[1], second[1]) = (key.alpha, key.beta);
        (first[2], second[2]) = (total, key.gamma);
        (first[3], second[3]) = (proof.c, key.delta);
        return Bn254.pairingIsOne(first, second);
    }
}
