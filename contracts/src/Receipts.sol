// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Assets} from "./Assets.sol";
import {BadField, Kind, NotAllowed, SERVE, Unknown} from "./Common.sol";
import {Providers} from "./Providers.sol";

/// @title Anchors of the receipts that service nodes leave for every answer
/// @notice For each service and node an append-only list of Merkle roots. A batch starts where the last one ended, so
/// that no receipt can be slipped in, left out or replaced afterwards.
contract Receipts {
    struct Batch {
        bytes32 root;
        uint64 firstSequence;
        uint64 count;
        uint64 anchoredAt;
    }

    Assets public immutable assets;
    Providers public immutable providers;
    mapping(uint256 serviceId => mapping(address node => Batch[])) private _batches;

    event Anchored(
        uint256 indexed serviceId,
        address indexed node,
        uint256 indexed batch,
        bytes32 root,
        uint256 firstSequence,
        uint256 count
    );

    error OutOfSequence(uint256 expected, uint256 given);

    constructor(Assets assets_, Providers providers_) {
        assets = assets_;
        providers = providers_;
    }

    /// @notice Anchor the root over the receipts `firstSequence` to `firstSequence + count - 1` of the calling node.
    function anchor(uint256 serviceId, bytes32 root, uint64 count, uint64 firstSequence) external {
        if (!providers.hasRole(msg.sender, SERVE)) revert NotAllowed(msg.sender);
        if (assets.kindOf(serviceId) != Kind.Service) revert BadField("serviceId");
        if (root == 0) revert BadField("root");
        if (count == 0) revert BadField("count");
        uint256 expected = nextSequence(serviceId, msg.sender);
        if (firstSequence != expected) revert OutOfSequence(expected, firstSequence);
        if (uint256(firstSequence) + count > type(uint64).max) revert BadField("count");
        Batch[] storage batches = _batches[serviceId][msg.sender];
        batches.push(Batch(root, firstSequence, count, uint64(block.timestamp)));
        emit Anchored(serviceId, msg.sender, batches.length - 1, root, firstSequence, count);
    }

    /// @notice First sequence number that is not anchored yet; numbers start at 0.
    function nextSequence(uint256 serviceId, address node) public view returns (uint256) {
        Batch[] storage batches = _batches[serviceId][node];
        if (batches.length == 0) return 0;
        Batch storage last = batches[batches.length - 1];
        return uint256(last.firstSequence) + last.count;
    }

    function batchCount(uint256 serviceId, address node) external view returns (uint256) {
        return _batches[serviceId][node].length;
    }

    function batchOf(uint256 serviceId, address node, uint256 batch) external view returns (Batch memory) {
        if (batch >= _batches[serviceId][node].length) revert Unknown(batch);
        return _batches[serviceId][node][batch];
    }
}
