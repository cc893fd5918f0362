// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {
    ALL_BASIS_POINTS,
    BadField,
    COMPUTE,
    EVALUATE,
    LONGEST_WAIT,
    NotAllowed,
    SERVE
} from "./Common.sol";
import {Credits} from "./Credits.sol";

/// @title Providers of computation, evaluation and serving, and their stakes
/// @notice A provider with at least `minimumStake` is in the pool of each of its roles and can be drawn. The contracts
/// wired at deployment draw from the pools, lock who was drawn, unlock them when the work ends, and slash.
/// @dev `nodeId` and `operator` are claims of the account. Who dials a node checks the node record, which the node key
/// signs; that two operators are different persons is not something a chain can know.
contract Providers is Credits {
    using SafeCast for uint256;

    struct Provider {
        bytes32 nodeId;
        bytes32 operator;
        uint8 roles;
        uint32 locks;
        uint64 unstakeAt;
        uint128 stake;
        uint128 unstaking;
    }

    /// @param joinedAt height of the block in which it entered the pool with its present record.
    struct Candidate {
        address account;
        uint64 joinedAt;
    }

    /// @notice A pool takes no more than this many, so that a draw always fits into a block.
    uint256 public constant MAXIMUM_POOL = 1024;

    uint256 public immutable minimumStake;
    uint256 public immutable freezeSeconds;
    address private immutable _deployer;

    bool public wired;
    mapping(address contract_ => bool) public isAuthorised;
    mapping(address account => Provider) private _providers;
    mapping(uint8 role => Candidate[]) private _pools;
    /// Position in the pool plus one; zero means absent.
    mapping(uint8 role => mapping(address account => uint256)) private _positions;

    event Wired(address[] authorised);
    event Registered(address indexed account, bytes32 indexed nodeId, bytes32 indexed operator, uint8 roles);
    event Staked(address indexed account, uint256 amount, uint256 stake);
    event UnstakeRequested(address indexed account, uint256 amount, uint256 availableAt);
    event PoolChanged(uint8 indexed role, address indexed account, bool joined);
    /// @dev Holds who was in the pool, so that a stranger can repeat the sampling; operators are in `Registered`.
    event Sampled(
        address indexed drawnFor,
        uint8 indexed role,
        bytes32 seed,
        uint256 latestJoin,
        Candidate[] pool,
        address[] excluded,
        address[] chosen
    );
    event Unlocked(address indexed account, uint256 locks);
    event Slashed(address indexed account, address indexed by, uint256 amount, uint256 subject);

    error NotRegistered(address account);
    error Locked(address account, uint256 locks);
    error StakeTooSmall(uint256 stake, uint256 requested);
    error PoolFull(uint8 role);
    error NotEnoughProviders(uint8 role, uint256 found, uint256 needed);

    constructor(IERC20 token_, uint256 minimumStake_, uint256 freezeSeconds_) Credits(token_) {
        if (minimumStake_ == 0) revert BadField("minimumStake");
        if (freezeSeconds_ > LONGEST_WAIT) revert BadField("freezeSeconds");
        minimumStake = minimumStake_;
        freezeSeconds = freezeSeconds_;
        _deployer = msg.sender;
    }

    modifier onlyAuthorised() {
        if (!isAuthorised[msg.sender]) revert NotAllowed(msg.sender);
        _;
    }

    /// @notice Name the contracts that may draw, unlock and slash. Once, by the deployer, never changed after.
    function wire(address[] calldata authorised) external {
        if (msg.sender != _deployer || wired) revert NotAllowed(msg.sender);
        wired = true;
        for (uint256 i = 0; i < authorised.length; i++) {
            isAuthorised[authorised[i]] = true;
        }
        emit Wired(authorised);
    }

    /// @notice Enter or change the caller's record. Not while work is assigned.
    /// @param roles sum of COMPUTE, EVALUATE, SERVE; at least one.
    function register(bytes32 nodeId, bytes32 operator, uint8 roles) external {
        if (nodeId == 0) revert BadField("nodeId");
        if (operator == 0) revert BadField("operator");
        if (roles == 0 || roles > COMPUTE + EVALUATE + SERVE) revert BadField("roles");
        Provider storage provider = _providers[msg.sender];
        if (provider.locks != 0) revert Locked(msg.sender, provider.locks);
        // Leave first: a changed record joins anew, so that it cannot be fitted to a draw that is under way.
        provider.roles = 0;
        _refresh(msg.sender);
        provider.nodeId = nodeId;
        provider.operator = operator;
        provider.roles = roles;
        emit Registered(msg.sender, nodeId, operator, roles);
        _refresh(msg.sender);
    }

    /// @notice Add to the caller's stake; pulled by allowance.
    function stake(uint256 amount) external {
        Provider storage provider = _providers[msg.sender];
        if (provider.nodeId == 0) revert NotRegistered(msg.sender);
        if (amount == 0) revert BadField("amount");
        provider.stake += amount.toUint128();
        emit Staked(msg.sender, amount, provider.stake);
        _refresh(msg.sender);
        _pull(msg.sender, amount);
    }

    /// @notice Take `amount` out of the stake that counts. It can still be slashed until `withdraw` pays it, which needs
    /// the freeze to be over and no work to be assigned. A second request restarts the freeze for the whole.
    function requestUnstake(uint256 amount) external {
        Provider storage provider = _providers[msg.sender];
        if (amount == 0) revert BadField("amount");
        if (amount > provider.stake) revert StakeTooSmall(provider.stake, amount);
        provider.stake -= amount.toUint128();
        provider.unstaking += amount.toUint128();
        provider.unstakeAt = (block.timestamp + freezeSeconds).toUint64();
        emit UnstakeRequested(msg.sender, amount, provider.unstakeAt);
        _refresh(msg.sender);
    }

    /// @notice Sample `count` providers of `role` with different operators, none of them in `excluded`, and lock them.
    /// @param latestJoin who joined the pool after this height is left out; give the height at which the randomness
    /// was still unknown to everybody.
    function draw(uint8 role, bytes32 seed, uint256 count, address[] calldata excluded, uint256 latestJoin)
        external
        onlyAuthorised
        returns (address[] memory chosen)
    {
        chosen = sample(role, seed, count, excluded, latestJoin);
        for (uint256 i = 0; i < count; i++) {
            _providers[chosen[i]].locks += 1;
        }
        emit Sampled(msg.sender, role, seed, latestJoin, _pools[role], excluded, chosen);
    }

    /// @notice End the assignment of each of `accounts`.
    function unlock(address[] calldata accounts) external onlyAuthorised {
        for (uint256 i = 0; i < accounts.length; i++) {
            Provider storage provider = _providers[accounts[i]];
            provider.locks -= 1;
            emit Unlocked(accounts[i], provider.locks);
        }
    }

    /// @notice Take a share of everything `account` has at stake and credit it to `payees` in equal parts, the
    /// remainder to `remainderTo`.
    /// @param share in basis points of stake and unstaking money together.
    function slash(address account, uint256 share, address[] calldata payees, address remainderTo, uint256 subject)
        external
        onlyAuthorised
        returns (uint256 taken)
    {
        if (share > ALL_BASIS_POINTS) revert BadField("share");
        Provider storage provider = _providers[account];
        uint256 fromStake = (provider.stake * share) / ALL_BASIS_POINTS;
        uint256 fromUnstaking = (provider.unstaking * share) / ALL_BASIS_POINTS;
        provider.stake -= fromStake.toUint128();
        provider.unstaking -= fromUnstaking.toUint128();
        taken = fromStake + fromUnstaking;
        emit Slashed(account, msg.sender, taken, subject);
        _refresh(account);
        uint256 rest = taken;
        for (uint256 i = 0; i < payees.length; i++) {
            _credit(payees[i], taken / payees.length, "slashed stake", subject);
            rest -= taken / payees.length;
        }
        _credit(remainderTo, rest, "slashed stake", subject);
    }

    function providerOf(address account) external view returns (Provider memory) {
        return _providers[account];
    }

    function hasRole(address account, uint8 role) external view returns (bool) {
        return _providers[account].roles & role != 0;
    }

    /// @notice Everybody who can be drawn for `role` now.
    function eligible(uint8 role) external view returns (Candidate[] memory) {
        return _pools[role];
    }

    /// @notice The sampling itself: each candidate's ticket is `keccak256(abi.encode(seed, account))`; for each operator
    /// only its lowest ticket counts; the `count` lowest win, in the order of their tickets.
    /// @dev A candidate that leaves changes nobody else's ticket, and one that joins is too late, so who knows the seed
    /// before the draw cannot steer it.
    function sample(uint8 role, bytes32 seed, uint256 count, address[] calldata excluded, uint256 latestJoin)
        public
        view
        returns (address[] memory chosen)
    {
        Candidate[] storage pool = _pools[role];
        chosen = new address[](count);
        bytes32[] memory operators = new bytes32[](count);
        uint256[] memory tickets = new uint256[](count);
        uint256 found = 0;
        for (uint256 i = 0; i < pool.length; i++) {
            Candidate memory candidate = pool[i];
            if (candidate.joinedAt > latestJoin) continue;
            uint256 ticket = uint256(keccak256(abi.encode(seed, candidate.account)));
            if (found == count && ticket >= tickets[count - 1]) continue;
            if (_contains(excluded, candidate.account)) continue;
            bytes32 operator = _providers[candidate.account].operator;
            // The place that this ticket may fill: the operator's own, a free one, or the worst.
            uint256 place = 0;
            while (place < found && operators[place] != operator) place++;
            if (place < found) {
                if (ticket >= tickets[place]) continue;
            } else if (found < count) {
                found++;
            } else {
                place = count - 1;
            }
            while (place > 0 && tickets[place - 1] > ticket) {
                chosen[place] = chosen[place - 1];
                operators[place] = operators[place - 1];
                tickets[place] = tickets[place - 1];
                place--;
            }
            chosen[place] = candidate.account;
            operators[place] = operator;
            tickets[place] = ticket;
        }
        if (found < count) revert NotEnoughProviders(role, found, count);
    }

    /// Money whose freeze is over becomes credit when its owner withdraws.
    function _beforeWithdraw(address account) internal override {
        Provider storage provider = _providers[account];
        uint256 amount = provider.unstaking;
        if (amount == 0 || provider.locks != 0 || block.timestamp < provider.unstakeAt) return;
        provider.unstaking = 0;
        _credit(account, amount, "unstaked", 0);
    }

    function _refresh(address account) private {
        Provider storage provider = _providers[account];
        bool staked = provider.stake >= minimumStake;
        for (uint8 role = COMPUTE; role <= SERVE; role <<= 1) {
            bool wanted = staked && provider.roles & role != 0;
            uint256 position = _positions[role][account];
            if (wanted == (position != 0)) continue;
            Candidate[] storage pool = _pools[role];
            if (wanted) {
                if (pool.length == MAXIMUM_POOL) revert PoolFull(role);
                pool.push(Candidate(account, block.number.toUint64()));
                _positions[role][account] = pool.length;
            } else {
                Candidate memory last = pool[pool.length - 1];
                pool[position - 1] = last;
                _positions[role][last.account] = position;
                pool.pop();
                _positions[role][account] = 0;
            }
            emit PoolChanged(role, account, wanted);
        }
    }

    function _contains(address[] calldata accounts, address account) private pure returns (bool) {
        for (uint256 i = 0; i < accounts.length; i++) {
            if (accounts[i] == account) return true;
        }
        return false;
    }
}
