// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The curve BN254 through the precompiled contracts 5 to 8 (EIP-196, EIP-197, EIP-198)
/// @dev Points from outside are checked before a precompile sees them, so that a wrong one costs no more than its check.
library Bn254 {
    /// The point (0, 0) stands for the identity.
    struct Point {
        uint256 x;
        uint256 y;
    }

    /// Each coordinate has its imaginary part first.
    struct SecondPoint {
        uint256[2] x;
        uint256[2] y;
    }

    error NotAPoint();

    uint256 internal constant FIELD = 0x30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47;
    uint256 internal constant ORDER = 0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001;
    uint256 private constant PAIRING_GAS = 45_000;
    uint256 private constant PAIR_GAS = 34_000;

    function generator() internal pure returns (Point memory) {
        return Point(1, 2);
    }

    function isPoint(Point memory point) internal pure returns (bool) {
        if (point.x >= FIELD || point.y >= FIELD) return false;
        if (point.x == 0 && point.y == 0) return true;
        uint256 cube = mulmod(mulmod(point.x, point.x, FIELD), point.x, FIELD);
        return mulmod(point.y, point.y, FIELD) == addmod(cube, 3, FIELD);
    }

    function check(Point memory point) internal pure {
        if (!isPoint(point)) revert NotAPoint();
    }

    function isIdentity(Point memory point) internal pure returns (bool) {
        return point.x == 0 && point.y == 0;
    }

    function equal(Point memory left, Point memory right) internal pure returns (bool) {
        return left.x == right.x && left.y == right.y;
    }

    function negate(Point memory point) internal pure returns (Point memory) {
        return Point(point.x, (FIELD - point.y) % FIELD);
    }

    /// Both must be points.
    function add(Point memory left, Point memory right) internal view returns (Point memory sum) {
        uint256[4] memory input = [left.x, left.y, right.x, right.y];
        bool done;
        assembly ("memory-safe") {
            done := staticcall(gas(), 6, input, 128, sum, 64)
        }
        if (!done) revert NotAPoint();
    }

    function subtract(Point memory left, Point memory right) internal view returns (Point memory) {
        return add(left, negate(right));
    }

    /// Must be a point.
    function multiply(Point memory point, uint256 scalar) internal view returns (Point memory product) {
        uint256[3] memory input = [point.x, point.y, scalar];
        bool done;
        assembly ("memory-safe") {
            done := staticcall(gas(), 7, input, 96, product, 64)
        }
        if (!done) revert NotAPoint();
    }

    /// Whether the product of the pairings is one; false where a second point is none.
    function pairingIsOne(Point[] memory first, SecondPoint[] memory second) internal view returns (bool) {
        assert(first.length == second.length);
        uint256[] memory input = new uint256[](6 * first.length);
        for (uint256 i = 0; i < first.length; i++) {
            input[6 * i] = first[i].x;
            input[6 * i + 1] = first[i].y;
            input[6 * i + 2] = second[i].x[0];
            input[6 * i + 3] = second[i].x[1];
            input[6 * i + 4] = second[i].y[0];
            input[6 * i + 5] = second[i].y[1];
        }
        // A failing precompile takes all it is given: give what the check costs and no more.
        uint256 price = PAIRING_GAS + PAIR_GAS * first.length;
        uint256 size = 32 * input.length;
        uint256[1] memory output;
        bool done;
        assembly ("memory-safe") {
            done := staticcall(price, 8, add(input, 32), size, output, 32)
        }
        return done && output[0] == 1;
    }

    /// The inverse modulo the order; `number` must not be a multiple of it.
    function inverse(uint256 number) internal view returns (uint256) {
        uint256[6] memory input = [32, 32, 32, number, ORDER - 2, ORDER];
        uint256[1] memory output;
        bool done;
        assembly ("memory-safe") {
            done := staticcall(gas(), 5, input, 192, output, 32)
        }
        assert(done);
        return output[0];
    }

    /// The value at `place` of the polynomial, in the exponent, that has `points[i]` at `places[i]` (Lagrange).
    function interpolate(Point[] memory points, uint256[] memory places, uint256 place)
        internal
        view
        returns (Point memory value)
    {
        for (uint256 i = 0; i < places.length; i++) {
            uint256 above = 1;
            uint256 below = 1;
            for (uint256 j = 0; j < places.length; j++) {
                if (j == i) continue;
                above = mulmod(above, addmod(place, ORDER - places[j], ORDER), ORDER);
                below = mulmod(below, addmod(places[i], ORDER - places[j], ORDER), ORDER);
            }
            value = add(value, multiply(points[i], mulmod(above, inverse(below), ORDER)));
        }
    }
}
