// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// Counts, and says so.
contract Counter {
    event Increased(address indexed by, uint256 total);

    uint256 public total;

    constructor(uint256 first) {
        total = first;
    }

    function increase(uint256 amount) external returns (uint256) {
        require(amount > 0, "increase by something");
        total += amount;
        emit Increased(msg.sender, total);
        return total;
    }
}
