// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {HeightNotReached} from "./Common.sol";

/// @title Block randomness from a height that is fixed in advance
/// @notice Only the last 256 block hashes are readable. Who finds that the chosen one is out of reach schedules anew.
library Randomness {
    /// @notice Hash of block `height`, or zero when it went out of reach.
    function read(uint256 height) internal view returns (bytes32) {
        if (block.number <= height) revert HeightNotReached(height);
        return blockhash(height);
    }
}
