// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {
    ALL_BASIS_POINTS,
    AlreadyDone,
    BadField,
    BadSignature,
    LONGEST_WAIT,
    NotAllowed,
    TooEarly,
    TooLate,
    Unknown
} from "./Common.sol";
import {Offers} from "./Offers.sol";

/// @title Payment channels: a deposit, and signed running totals that the receiver settles
/// @notice One channel for each payer, receiver and salt; its id is never used again. A voucher says that the payer
/// owes the receiver `maxClaimableAmount` in total. Settling pays the part not paid before: the service node's share to
/// the receiver, the rest to the split of the service.
abstract contract Channels is Offers, EIP712 {
    using SafeCast for uint256;

    /// @param nodeShare as offered when the channel was opened.
    /// @param expiry from then on anyone may close the channel.
    /// @param closeAt zero until the payer asks to close; from then on anyone may.
    struct Channel {
        address payer;
        uint16 nodeShare;
        bool closed;
        address receiver;
        uint256 serviceId;
        uint128 deposit;
        uint128 claimed;
        uint64 expiry;
        uint64 closeAt;
    }

    bytes32 public constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channelId,uint128 maxClaimableAmount)");

    /// @notice Seconds the receiver has to settle after the payer asked to close.
    uint256 public immutable closeDelay;
    mapping(bytes32 channelId => Channel) private _channels;

    event ChannelOpened(
        bytes32 indexed channelId,
        address indexed payer,
        address indexed receiver,
        uint256 serviceId,
        uint256 deposit,
        uint256 expiry
    );
    event ChannelToppedUp(bytes32 indexed channelId, uint256 deposit, uint256 expiry);
    event ChannelSettled(bytes32 indexed channelId, uint256 claimed, uint256 toNode, uint256 toSplit);
    event ChannelCloseRequested(bytes32 indexed channelId, uint256 closeAt);
    event ChannelClosed(bytes32 indexed channelId, uint256 claimed, uint256 refunded);

    error ClaimOutOfRange(uint256 cumulative, uint256 claimed, uint256 deposit);
    error ChannelIsClosed(bytes32 channelId);

    constructor(uint256 closeDelay_) EIP712("x402 Batch Settlement", "1") {
        if (closeDelay_ == 0 || closeDelay_ > LONGEST_WAIT) revert BadField("closeDelay");
        closeDelay = closeDelay_;
    }

    /// @notice Open a channel of the caller to `receiver` for a service. Pulls the deposit.
    /// @param expiry Unix seconds.
    function open(address receiver, uint256 serviceId, uint128 deposit, uint64 expiry, bytes32 salt)
        external
        returns (bytes32 channelId)
    {
        Offer memory offer = _openOffer(serviceId);
        if (receiver == address(0)) revert BadField("receiver");
        if (deposit == 0) revert BadField("deposit");
        _checkExpiry(expiry);
        channelId = channelIdOf(msg.sender, receiver, salt);
        Channel storage channel = _channels[channelId];
        if (channel.payer != address(0)) revert AlreadyDone(msg.sender);
        channel.payer = msg.sender;
        channel.receiver = receiver;
        channel.serviceId = serviceId;
        channel.nodeShare = offer.nodeShare;
        channel.deposit = deposit;
        channel.expiry = expiry;
        emit ChannelOpened(channelId, msg.sender, receiver, serviceId, deposit, expiry);
        _pull(msg.sender, deposit);
    }

    /// @notice Add to the deposit, or put the expiry off. Takes back a request to close. Payer only.
    function topUp(bytes32 channelId, uint128 amount, uint64 expiry) external {
        Channel storage channel = _live(channelId);
        if (msg.sender != channel.payer) revert NotAllowed(msg.sender);
        if (expiry < channel.expiry) revert BadField("expiry");
        _checkExpiry(expiry);
        channel.deposit += amount;
        channel.expiry = expiry;
        channel.closeAt = 0;
        emit ChannelToppedUp(channelId, channel.deposit, expiry);
        _pull(msg.sender, amount);
    }

    /// @notice Pay what a voucher adds to what was claimed before. Receiver only, until the channel is closed.
    /// @param signature of the payer's key or ERC-1271 account over `voucherDigest(channelId, cumulative)`.
    function settle(bytes32 channelId, uint128 cumulative, bytes calldata signature) external {
        Channel storage channel = _live(channelId);
        if (msg.sender != channel.receiver) revert NotAllowed(msg.sender);
        uint256 claimed = channel.claimed;
        if (cumulative <= claimed || cumulative > channel.deposit) {
            revert ClaimOutOfRange(cumulative, claimed, channel.deposit);
        }
        bytes32 digest = voucherDigest(channelId, cumulative);
        if (!SignatureChecker.isValidSignatureNow(channel.payer, digest, signature)) {
            revert BadSignature(channel.payer);
        }
        channel.claimed = cumulative;
        // The node's part follows from the totals, so many small settlements pay exactly what one large one does.
        uint256 toNode = (uint256(cumulative) * channel.nodeShare) / ALL_BASIS_POINTS
            - (claimed * channel.nodeShare) / ALL_BASIS_POINTS;
        uint256 toSplit = cumulative - claimed - toNode;
        emit ChannelSettled(channelId, cumulative, toNode, toSplit);
        _credit(channel.receiver, toNode, "node share", uint256(channelId));
        _distribute(channel.serviceId, toSplit);
    }

    /// @notice The payer asks to close. After `closeDelay` seconds anyone may call `close`.
    function requestClose(bytes32 channelId) external {
        Channel storage channel = _live(channelId);
        if (msg.sender != channel.payer) revert NotAllowed(msg.sender);
        if (channel.closeAt != 0) revert AlreadyDone(msg.sender);
        channel.closeAt = (block.timestamp + closeDelay).toUint64();
        emit ChannelCloseRequested(channelId, channel.closeAt);
    }

    /// @notice Close and credit the rest of the deposit to the payer. The receiver at any time; anyone after the expiry
    /// or after a request to close has run its delay.
    function close(bytes32 channelId) external {
        Channel storage channel = _live(channelId);
        uint256 from = channel.expiry;
        if (channel.closeAt != 0 && channel.closeAt < from) from = channel.closeAt;
        if (msg.sender != channel.receiver && block.timestamp < from) revert TooEarly(from);
        channel.closed = true;
        uint256 rest = channel.deposit - channel.claimed;
        emit ChannelClosed(channelId, channel.claimed, rest);
        _credit(channel.payer, rest, "deposit returned", uint256(channelId));
    }

    function channelOf(bytes32 channelId) external view returns (Channel memory) {
        Channel memory channel = _channels[channelId];
        if (channel.payer == address(0)) revert Unknown(uint256(channelId));
        return channel;
    }

    function channelIdOf(address payer, address receiver, bytes32 salt) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), payer, receiver, salt));
    }

    /// @notice EIP-712 digest that a payer signs, in the types of x402's batch settlement.
    function voucherDigest(bytes32 channelId, uint128 cumulative) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(VOUCHER_TYPEHASH, channelId, cumulative)));
    }

    function _live(bytes32 channelId) private view returns (Channel storage channel) {
        channel = _channels[channelId];
        if (channel.payer == address(0)) revert Unknown(uint256(channelId));
        if (channel.closed) revert ChannelIsClosed(channelId);
    }

    function _checkExpiry(uint64 expiry) private view {
        if (expiry <= block.timestamp) revert TooLate(expiry);
        if (expiry > block.timestamp + LONGEST_WAIT) revert BadField("expiry");
    }
}
