// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Proofs that a leaf of any length is number `index` of `count` under a root
/// @notice The trees of `koinon.crypto.merkle`: leaf `keccak256(0x00 || leaf)`, node `keccak256(0x01 || left || right)`,
/// the last node of an odd level moves up as it is, root `keccak256(0x02 || count as 8 bytes || top)`.
library MerkleProof {
    function isLeaf(bytes32 root, bytes calldata leaf, uint256 index, uint256 count, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        if (index >= count || count > type(uint64).max) return false;
        bytes32 node = keccak256(abi.encodePacked(bytes1(0x00), leaf));
        uint256 used = 0;
        for (uint256 width = count; width > 1; width = (width + 1) / 2) {
            if (index ^ 1 < width) {
                if (used == proof.length) return false;
                bytes32 sibling = proof[used++];
                node = index % 2 == 1
                    ? keccak256(abi.encodePacked(bytes1(0x01), sibling, node))
                    : keccak256(abi.encodePacked(bytes1(0x01), node, sibling));
            }
            index /= 2;
        }
        return used == proof.length && keccak256(abi.encodePacked(bytes1(0x02), uint64(count), node)) == root;
    }
}
