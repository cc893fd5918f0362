// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// Errors that several contracts share. Each carries what is wrong, so that a client can say it in one sentence.

/// The step is allowed only after `time` (Unix seconds) or only while an earlier phase lasts.
error TooEarly(uint256 time);
/// The deadline `time` (Unix seconds) has passed.
error TooLate(uint256 time);
/// Randomness comes from block `height`; the step is allowed once a later block exists.
error HeightNotReached(uint256 height);
/// The hash of block `height` can no longer be read; call `capture`, which schedules the draw anew.
error EntropyOutOfReach(uint256 height);
/// `caller` has no right to do this.
error NotAllowed(address caller);
/// Nothing with this number exists.
error Unknown(uint256 id);
/// The subject is in phase `phase`, in which this step does not exist.
error WrongPhase(uint8 phase);
/// The signature does not belong to `signer` over the expected typed data.
error BadSignature(address signer);
/// The opened value does not match what `party` committed to.
error BadOpening(address party);
/// The field called `name` is out of its documented range.
error BadField(bytes32 name);
/// `account` has done this already.
error AlreadyDone(address account);

// What an asset on the market is.
enum Kind {
    Dataset,
    Model,
    Service
}

// Roles of a provider, one bit each.
uint8 constant COMPUTE = 1;
uint8 constant EVALUATE = 2;
uint8 constant SERVE = 4;

// The whole, in basis points.
uint256 constant ALL_BASIS_POINTS = 10_000;
// No time-out may be longer than this many seconds, so that no money is locked for ever by a typing error.
uint256 constant LONGEST_WAIT = 366 days;
// A draw whose block hash went out of reach is scheduled anew at most this often; then the money goes back.
uint8 constant MAXIMUM_RESCHEDULES = 3;
