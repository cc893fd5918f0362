// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {Assets} from "./Assets.sol";
import {Channels} from "./Channels.sol";
import {Credits} from "./Credits.sol";
import {Offers} from "./Offers.sol";
import {Passes} from "./Passes.sol";

/// @title The market of services: offers, passes and payment channels
contract Market is Passes, Channels {
    constructor(Assets assets_, uint256 closeDelay_)
        Credits(assets_.token())
        Offers(assets_)
        ERC721("Koinon Pass", "KPASS")
        Channels(closeDelay_)
    {}
}
