// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Assets} from "./Assets.sol";
import {ALL_BASIS_POINTS, BadField, Kind, NotAllowed} from "./Common.sol";
import {Credits} from "./Credits.sol";

/// @title Offers: what the owner of a service asks for it
abstract contract Offers is Credits {
    /// @param pricePerCall of a pass, for each call of its quota.
    /// @param pricePerDay of a pass, for each day begun.
    /// @param voucherPrice what a service node asks for a call, by voucher in a channel.
    /// @param nodeShare part of channel revenue that goes to the service node, in basis points.
    struct Offer {
        uint128 pricePerCall;
        uint128 pricePerDay;
        uint128 voucherPrice;
        uint16 nodeShare;
        bool open;
    }

    Assets public immutable assets;
    mapping(uint256 serviceId => Offer) private _offers;

    event OfferSet(
        uint256 indexed serviceId, uint256 pricePerCall, uint256 pricePerDay, uint256 voucherPrice, uint256 nodeShare, bool open
    );

    error NotOffered(uint256 serviceId);

    constructor(Assets assets_) {
        assets = assets_;
        assets_.token().approve(address(assets_), type(uint256).max);
    }

    /// @notice Set or close the offer of a service. Passes and channels that exist keep their terms.
    function setOffer(uint256 serviceId, Offer calldata offer) external {
        if (assets.kindOf(serviceId) != Kind.Service) revert BadField("serviceId");
        if (assets.ownerOf(serviceId) != msg.sender) revert NotAllowed(msg.sender);
        if (offer.nodeShare > ALL_BASIS_POINTS) revert BadField("nodeShare");
        _offers[serviceId] = offer;
        emit OfferSet(serviceId, offer.pricePerCall, offer.pricePerDay, offer.voucherPrice, offer.nodeShare, offer.open);
    }

    function offerOf(uint256 serviceId) public view returns (Offer memory) {
        return _offers[serviceId];
    }

    function _openOffer(uint256 serviceId) internal view returns (Offer memory offer) {
        offer = _offers[serviceId];
        if (!offer.open) revert NotOffered(serviceId);
    }

    /// Pass held money on to the split of a service.
    function _distribute(uint256 serviceId, uint256 amount) internal {
        if (amount == 0) return;
        _release(amount);
        assets.distribute(serviceId, amount);
    }
}
