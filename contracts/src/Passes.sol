// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {BadField, LONGEST_WAIT, NotAllowed, TooLate, Unknown} from "./Common.sol";
import {Offers} from "./Offers.sol";

/// @notice ERC-5643: subscription tokens.
interface IERC5643 {
    event SubscriptionUpdate(uint256 indexed tokenId, uint64 expiration);

    function renewSubscription(uint256 tokenId, uint64 duration) external payable;
    function cancelSubscription(uint256 tokenId) external payable;
    function expiresAt(uint256 tokenId) external view returns (uint64);
    function isRenewable(uint256 tokenId) external view returns (bool);
}

/// @title Passes: the right to a number of calls within a period, as ERC-721 and ERC-5643 tokens
/// @notice The quota is counted by the service nodes, which show their receipts.
abstract contract Passes is Offers, ERC721, IERC5643 {
    using SafeCast for uint256;

    struct Pass {
        uint256 serviceId;
        uint64 quota;
        uint64 expiresAt;
    }

    /// @notice Number of passes sold; their ids are 1 to `passCount`.
    uint256 public passCount;
    mapping(uint256 passId => Pass) private _passes;

    event PassBought(
        uint256 indexed passId,
        uint256 indexed serviceId,
        address indexed buyer,
        uint256 quota,
        uint256 expiresAt,
        uint256 price
    );

    error PriceAbove(uint256 price, uint256 maximum);
    error EtherRefused();

    /// @notice Buy a pass. Pulls the price from the caller and credits it by the service's split.
    /// @param quota calls, at least 1.
    /// @param period seconds, at least 1.
    /// @param maximumPrice reverts where the owner asks for more.
    function buy(uint256 serviceId, uint64 quota, uint64 period, uint256 maximumPrice)
        external
        returns (uint256 passId)
    {
        if (quota == 0) revert BadField("quota");
        if (period == 0 || period > LONGEST_WAIT) revert BadField("period");
        uint256 price = priceOf(serviceId, quota, period);
        if (price > maximumPrice) revert PriceAbove(price, maximumPrice);
        passId = ++passCount;
        uint64 end = (block.timestamp + period).toUint64();
        _passes[passId] = Pass(serviceId, quota, end);
        emit PassBought(passId, serviceId, msg.sender, quota, end, price);
        emit SubscriptionUpdate(passId, end);
        _mint(msg.sender, passId);
        _sell(serviceId, price);
    }

    /// @notice ERC-5643: more time for the same quota, at the present price of time.
    function renewSubscription(uint256 passId, uint64 duration) external payable {
        if (msg.value != 0) revert EtherRefused();
        _ownedPass(passId);
        Pass storage pass = _passes[passId];
        if (duration == 0) revert BadField("duration");
        uint256 price = priceOf(pass.serviceId, 0, duration);
        uint256 from = pass.expiresAt > block.timestamp ? pass.expiresAt : block.timestamp;
        if (from + duration > block.timestamp + LONGEST_WAIT) revert BadField("duration");
        pass.expiresAt = (from + duration).toUint64();
        emit SubscriptionUpdate(passId, pass.expiresAt);
        _sell(pass.serviceId, price);
    }

    /// @notice ERC-5643: give the rest of the pass up. Nothing is paid back.
    function cancelSubscription(uint256 passId) external payable {
        if (msg.value != 0) revert EtherRefused();
        _ownedPass(passId);
        Pass storage pass = _passes[passId];
        if (pass.expiresAt <= block.timestamp) revert TooLate(pass.expiresAt);
        pass.expiresAt = block.timestamp.toUint64();
        emit SubscriptionUpdate(passId, pass.expiresAt);
    }

    function passOf(uint256 passId) external view returns (Pass memory) {
        return _existingPass(passId);
    }

    function expiresAt(uint256 passId) external view returns (uint64) {
        return _existingPass(passId).expiresAt;
    }

    function isRenewable(uint256 passId) external view returns (bool) {
        return offerOf(_existingPass(passId).serviceId).open;
    }

    /// @notice Price of `quota` calls within `period` seconds, each day begun counted whole.
    function priceOf(uint256 serviceId, uint64 quota, uint64 period) public view returns (uint256) {
        Offer memory offer = _openOffer(serviceId);
        uint256 daysBegun = (uint256(period) + 1 days - 1) / 1 days;
        return uint256(offer.pricePerCall) * quota + uint256(offer.pricePerDay) * daysBegun;
    }

    function supportsInterface(bytes4 interfaceId) public view virtual override returns (bool) {
        return interfaceId == type(IERC5643).interfaceId || super.supportsInterface(interfaceId);
    }

    function _sell(uint256 serviceId, uint256 price) private {
        _pull(msg.sender, price);
        _distribute(serviceId, price);
    }

    function _existingPass(uint256 passId) private view returns (Pass memory pass) {
        pass = _passes[passId];
        if (pass.expiresAt == 0) revert Unknown(passId);
    }

    function _ownedPass(uint256 passId) private view {
        _existingPass(passId);
        if (ownerOf(passId) != msg.sender) revert NotAllowed(msg.sender);
    }
}
