// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title Pull payments with a ledger that cannot pay out more than came in
/// @notice Money enters through `_pull` as held, moves from held to an account's credit through `_credit`, and leaves
/// only when its account calls `withdraw`. At all times `token.balanceOf(this) >= totalHeld + totalCredit`, with
/// equality unless somebody sent tokens here by mistake. A credit larger than what is held reverts.
abstract contract Credits {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    IERC20 public immutable token;
    /// @notice What `withdraw` would pay to each account.
    mapping(address account => uint256) public creditOf;
    /// @notice Escrow, stakes, bonds and deposits that are not yet anybody's credit.
    uint128 public totalHeld;
    /// @notice Sum of `creditOf`.
    uint128 public totalCredit;

    /// @param reason short ASCII text, such as "committee fee".
    /// @param subject the study, asset, request, or channel that it is about.
    event Credited(address indexed account, uint256 amount, bytes32 indexed reason, uint256 indexed subject);
    event Withdrawn(address indexed account, uint256 amount);

    error NothingToWithdraw(address account);

    constructor(IERC20 token_) {
        token = token_;
    }

    /// @notice Pay the caller's whole credit to the caller.
    function withdraw() external {
        _beforeWithdraw(msg.sender);
        uint256 amount = creditOf[msg.sender];
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        creditOf[msg.sender] = 0;
        totalCredit -= amount.toUint128();
        emit Withdrawn(msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    function _beforeWithdraw(address account) internal virtual {}

    /// Call last: the token is outside code.
    function _pull(address from, uint256 amount) internal {
        _hold(amount);
        _collect(from, amount);
    }

    /// Count `amount` as held; `_collect` must follow in the same call.
    function _hold(uint256 amount) internal {
        totalHeld += amount.toUint128();
    }

    function _collect(address from, uint256 amount) internal {
        if (amount != 0) token.safeTransferFrom(from, address(this), amount);
    }

    function _credit(address account, uint256 amount, bytes32 reason, uint256 subject) internal {
        if (amount == 0) return;
        totalHeld -= amount.toUint128();
        totalCredit += amount.toUint128();
        creditOf[account] += amount;
        emit Credited(account, amount, reason, subject);
    }

    /// Held money that another contract of the suite is about to pull.
    function _release(uint256 amount) internal {
        totalHeld -= amount.toUint128();
    }
}
