// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Counter} from "./Counter.sol";

interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

/// Deploys one counter by nonce and one by salt, and uses the first.
contract Deploy {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    bool public constant IS_SCRIPT = true;

    function run() external {
        VM.startBroadcast();
        Counter counter = new Counter(40);
        Counter salted = new Counter{salt: bytes32(uint256(7))}(1);
        counter.increase(2);
        salted.increase(1);
        VM.stopBroadcast();
        require(counter.total() == 42, "the first counter");
    }
}
