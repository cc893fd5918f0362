// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {
    ALL_BASIS_POINTS,
    AlreadyDone,
    BadField,
    LONGEST_WAIT,
    NotAllowed,
    TooLate,
    Unknown
} from "./Common.sol";

/// @title Proof of stake: candidates, delegations, rewards, slashing; the system contract at 0x…1000
/// @notice Stake, delegations, rewards are the chain's own coin. An *epoch* is the tenure of one validator set; an *era*
/// is a fixed number of epochs, at whose end rewards are settled; freezes count eras. The election itself runs outside,
/// in every validator: it reads `electorate` and writes `elected`, as the system account.
/// @dev Money enters with a call's value (or as a block's tips) and leaves only through `withdraw`, to whom it is owed.
/// `accounted` is the sum of everything that belongs to somebody or to the pool; it never exceeds the balance, and what
/// the balance holds beyond it (coins forced on the contract) joins the pool when an era ends.
contract Staking {
    using SafeCast for uint256;

    enum Status {
        None,
        Active,
        Leaving,
        Expelled
    }

    enum Action {
        Admit,
        Remove,
        Authorise,
        Revoke
    }

    /// @param open anybody may stake and be elected. Otherwise members vote on members and nobody stakes.
    /// @param evidenceEpochs how many epochs back double signing is punished; the freeze must outlast it.
    /// @param jailEras how long a validator that missed its turns cannot be elected.
    /// @param doubleSignShare of a candidate's stake, that contradictory signatures cost; `reporterShare` of it goes to
    /// who reported, the rest to the pool.
    /// @param idleShare of a candidate's stake, that an epoch without a block in spite of a turn costs; to the pool.
    /// @param issuance new coins for each era, in parts per 10^12 of the supply; `poolShare` of it to the pool, the rest to
    /// `treasury`.
    /// @param payoutShare of the pool, paid out for each era: `blockShare` of that by blocks made, `workShare` by useful
    /// work, the rest equally to the alternates.
    /// @param mostBonus largest addition to the election's weight for useful work; half of it is reached at `workScale`
    /// units in an era.
    /// @param shareEras between two changes of a candidate's share.
    struct Parameters {
        bool open;
        uint32 epochsPerEra;
        uint128 minimumStake;
        uint128 minimumDelegation;
        uint32 unstakeEras;
        uint32 undelegateEras;
        uint32 evidenceEpochs;
        uint32 jailEras;
        uint32 shareEras;
        uint32 voteSeconds;
        uint16 doubleSignShare;
        uint16 reporterShare;
        uint16 idleShare;
        uint64 issuance;
        uint16 poolShare;
        uint16 payoutShare;
        uint16 blockShare;
        uint16 workShare;
        uint16 mostBonus;
        uint64 workScale;
        address treasury;
    }

    /// @param keyHigh the first 32 of the 48 bytes of its BLS key; `keyLow` the other 16.
    struct Founder {
        address owner;
        bytes32 nodeId;
        bytes32 keyHigh;
        bytes16 keyLow;
        uint128 stake;
    }

    /// @param share of its rewards that goes to its delegators, in basis points.
    /// @param freeIn era from which `unstaking` can be withdrawn.
    /// @param active delegations that earn; `pending` those made in era `pendingIn`, which do not earn yet.
    /// @param reserve what delegators have earned and not claimed.
    /// @param alternateFrom first era of its present time as alternate, and `alternateIn` the last one it was chosen for.
    /// @param work units of useful work in this era; `bonus` what those of the era before add to its weight.
    /// @param place in the list of candidates, `seat` in the validator set, both plus one; `since` the first epoch of its
    /// present term, plus one.
    /// @param perUnit rewards of one unit of active delegation since ever, times `SCALE`.
    struct Candidate {
        address owner;
        Status status;
        uint16 share;
        uint32 shareSetIn;
        uint32 jailedUntil;
        bytes32 nodeId;
        bytes32 keyHigh;
        bytes16 keyLow;
        uint128 stake;
        uint128 unstaking;
        uint32 freeIn;
        uint32 pendingIn;
        uint32 alternateFrom;
        uint32 alternateIn;
        uint128 active;
        uint128 pending;
        uint128 reserve;
        uint128 eraFees;
        uint16 bonus;
        uint32 eraBlocks;
        uint64 work;
        uint32 place;
        uint32 seat;
        uint32 since;
        uint256 perUnit;
    }

    /// @param paidPerUnit the candidate's `perUnit` up to which `active` was paid.
    struct Delegation {
        uint128 active;
        uint128 pending;
        uint32 pendingIn;
        uint256 paidPerUnit;
    }

    struct Frozen {
        uint128 amount;
        uint32 freeIn;
    }

    struct Seat {
        uint32 candidate;
        uint32 blocks;
        uint128 fees;
    }

    /// What the election reads of a candidate.
    struct Elector {
        uint256 number;
        bytes32 keyHigh;
        bytes32 keyLow;
        uint256 stake;
        uint256 bonus;
        uint256 since;
        bool fit;
        bool alternate;
    }

    /// A validator as the next epoch will know it.
    struct Member {
        bytes32 nodeId;
        address account;
        bytes32 keyHigh;
        bytes32 keyLow;
    }

    struct Proposal {
        Action action;
        bool done;
        uint64 deadline;
        address subject;
        uint32 number;
        bytes32 nodeId;
        bytes32 keyHigh;
        bytes16 keyLow;
    }

    address private constant SYSTEM = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE;
    address private constant REGISTRATION = address(0x0400);
    address private constant DOUBLE_SIGNING = address(0x0401);
    /// @notice More candidates than this cannot be live at a time, so that the election stays bounded.
    uint256 public constant MAXIMUM_CANDIDATES = 512;
    /// @notice A delegator has at most this many frozen sums at a time.
    uint256 public constant MAXIMUM_FROZEN = 32;
    /// @notice The largest step of a candidate's share, in basis points.
    uint256 public constant LARGEST_STEP = 500;
    uint256 private constant SCALE = 1 << 128;

    Parameters public parameters;
    uint32 public epoch;
    /// @notice The first era is 1.
    uint32 public era;
    uint32 public candidateCount;
    uint32 private _alternateCount;
    uint32 private _eraBlocks;
    uint64 private _eraWork;
    /// @notice Coins that exist; grows by issuance. Burnt fees are not taken off.
    uint256 public supply;
    uint256 public pool;
    uint256 public accounted;
    uint256 public proposalCount;
    mapping(address account => uint256) public owed;
    mapping(address owner => uint32) public numberOf;
    mapping(address worker => uint32) public worksFor;
    mapping(address contract_ => bool) public mayCredit;
    mapping(uint256 id => Proposal) public proposals;
    mapping(uint32 number => Candidate) private _candidates;
    mapping(uint32 number => mapping(uint32 era_ => uint256)) private _perUnitAfter;
    mapping(address delegator => mapping(uint32 number => Delegation)) private _delegations;
    mapping(address delegator => Frozen[]) private _frozen;
    mapping(bytes32 keyHash => bool) private _keyUsed;
    mapping(bytes32 nodeId => bool) private _nodeUsed;
    mapping(uint256 id => address[]) private _approvals;
    uint32[] private _live;
    Seat[] private _seats;
    uint32[] private _next;

    event Registered(uint32 indexed number, address indexed owner, bytes32 indexed nodeId);
    event StakeChanged(uint32 indexed number, uint256 stake, uint256 unstaking);
    event Left(uint32 indexed number, uint256 freeIn);
    event ShareSet(uint32 indexed number, uint256 share);
    event Delegated(address indexed delegator, uint32 indexed number, uint256 amount);
    event Undelegated(address indexed delegator, uint32 indexed number, uint256 amount, uint256 freeIn);
    event Claimed(address indexed delegator, uint32 indexed number, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);
    event Funded(address indexed by, uint256 amount);
    event Slashed(uint32 indexed number, bytes32 indexed reason, uint256 amount, address reporter);
    event WorkCredited(uint32 indexed number, address indexed by, uint256 units);
    event Proposed(uint256 indexed id, Action action, address subject, uint32 number);
    event Approved(uint256 indexed id, address indexed by);
    event Carried(uint256 indexed id);

    error NotACandidate(uint32 number);
    error Full();
    error ShareFixed(uint256 untilEra);
    error EvidenceOutOfReach(uint256 epoch_);
    error NotEnough(uint256 held, uint256 wanted);
    error KeyTaken();
    error NotProven();
    error PaymentRefused(address account);

    modifier onlySystem() {
        if (msg.sender != SYSTEM) revert NotAllowed(msg.sender);
        _;
    }

    modifier onlyOpen() {
        if (!parameters.open) revert NotAllowed(msg.sender);
        _;
    }

    // ------------------------------------------------------------------------------------------------ candidates

    /// @notice Become a candidate with the value as stake.
    /// @param possession proof that the caller holds the BLS key (96 bytes) and the node key's signature (64 bytes) over
    /// the caller's address and that key; the native check refuses the identity key.
    function register(bytes32 nodeId, bytes32 keyHigh, bytes16 keyLow, bytes calldata possession, uint16 share)
        external
        payable
        onlyOpen
        returns (uint32 number)
    {
        if (msg.value < parameters.minimumStake) revert NotEnough(msg.value, parameters.minimumStake);
        if (share > ALL_BASIS_POINTS) revert BadField("share");
        _checkKeys(msg.sender, nodeId, keyHigh, keyLow, possession);
        accounted += msg.value;
        number = _enter(Founder(msg.sender, nodeId, keyHigh, keyLow, msg.value.toUint128()));
        _candidates[number].share = share;
        emit ShareSet(number, share);
    }

    /// @notice Add the value to the caller's stake.
    function addStake() external payable onlyOpen {
        (uint32 number, Candidate storage candidate) = _own(Status.Active);
        if (msg.value == 0) revert BadField("value");
        accounted += msg.value;
        candidate.stake += msg.value.toUint128();
        emit StakeChanged(number, candidate.stake, candidate.unstaking);
    }

    /// @notice Take stake back; `withdraw` pays it after the freeze, until then it can be slashed. Either the least stake
    /// remains, or all of it is taken and the candidate leaves. A second request restarts the freeze for the whole.
    function unstake(uint128 amount) external onlyOpen {
        (uint32 number, Candidate storage candidate) = _own(Status.Active);
        if (amount == 0) revert BadField("amount");
        if (amount > candidate.stake) revert NotEnough(candidate.stake, amount);
        if (amount == candidate.stake) {
            _leave(number, Status.Leaving);
            return;
        }
        if (candidate.stake - amount < parameters.minimumStake) {
            revert NotEnough(candidate.stake, uint256(parameters.minimumStake) + amount);
        }
        candidate.stake -= amount;
        _freezeStake(number, candidate, amount);
    }

    /// @notice Change the delegators' share, by at most 5 percentage points at a time.
    function setShare(uint16 share) external onlyOpen {
        (uint32 number, Candidate storage candidate) = _own(Status.Active);
        uint256 step = share > candidate.share ? share - candidate.share : candidate.share - share;
        if (share > ALL_BASIS_POINTS || step > LARGEST_STEP) revert BadField("share");
        uint256 from = uint256(candidate.shareSetIn) + parameters.shareEras;
        if (candidate.shareSetIn != 0 && era < from) revert ShareFixed(from);
        candidate.share = share;
        candidate.shareSetIn = era;
        emit ShareSet(number, share);
    }

    // ----------------------------------------------------------------------------------------------- delegations

    /// @notice Add the value to a candidate's weight. It earns from the next era on.
    function delegate(uint32 number) external payable onlyOpen {
        if (msg.value < parameters.minimumDelegation) revert NotEnough(msg.value, parameters.minimumDelegation);
        Candidate storage candidate = _active(number);
        Delegation storage delegation = _sync(msg.sender, number);
        accounted += msg.value;
        uint128 amount = msg.value.toUint128();
        delegation.pending += amount;
        delegation.pendingIn = era;
        candidate.pending += amount;
        candidate.pendingIn = era;
        emit Delegated(msg.sender, number, amount);
    }

    /// @notice Take a delegation back, the part that does not earn yet first; `withdraw` pays it after the freeze. There
    /// is no freeze where the candidate has left. What remains is nothing or at least the least delegation.
    function undelegate(uint32 number, uint128 amount) external {
        Delegation storage delegation = _sync(msg.sender, number);
        Candidate storage candidate = _candidates[number];
        uint256 held = uint256(delegation.active) + delegation.pending;
        if (amount == 0) revert BadField("amount");
        if (amount > held) revert NotEnough(held, amount);
        if (amount != held && held - amount < parameters.minimumDelegation) {
            revert NotEnough(held, uint256(parameters.minimumDelegation) + amount);
        }
        uint128 young = amount < delegation.pending ? amount : delegation.pending;
        delegation.pending -= young;
        candidate.pending -= young;
        delegation.active -= amount - young;
        candidate.active -= amount - young;
        uint32 freeIn = era + (candidate.status == Status.Active ? parameters.undelegateEras : 0);
        Frozen[] storage frozen = _frozen[msg.sender];
        uint256 count = frozen.length;
        if (count != 0 && frozen[count - 1].freeIn == freeIn) {
            frozen[count - 1].amount += amount;
        } else {
            if (count == MAXIMUM_FROZEN) revert Full();
            frozen.push(Frozen(amount, freeIn));
        }
        emit Undelegated(msg.sender, number, amount, freeIn);
    }

    /// @notice Move what the caller earned by delegating to a candidate to what is owed to the caller.
    function claim(uint32 number) external {
        _sync(msg.sender, number);
    }

    // ----------------------------------------------------------------------------------------------------- money

    /// @notice Pay the caller everything that is owed to it and whose freeze is over.
    function withdraw() external {
        uint256 amount = owed[msg.sender];
        owed[msg.sender] = 0;
        uint32 number = numberOf[msg.sender];
        Candidate storage candidate = _candidates[number];
        if (candidate.unstaking != 0 && era >= candidate.freeIn) {
            amount += candidate.unstaking;
            candidate.unstaking = 0;
            emit StakeChanged(number, candidate.stake, 0);
        }
        Frozen[] storage frozen = _frozen[msg.sender];
        for (uint256 i = frozen.length; i > 0; i--) {
            if (era < frozen[i - 1].freeIn) continue;
            amount += frozen[i - 1].amount;
            frozen[i - 1] = frozen[frozen.length - 1];
            frozen.pop();
        }
        if (amount == 0) revert NotEnough(0, 1);
        accounted -= amount;
        emit Withdrawn(msg.sender, amount);
        (bool paid,) = msg.sender.call{value: amount}("");
        if (!paid) revert PaymentRefused(msg.sender);
    }

    /// @notice Give the value to the reward pool.
    function fund() external payable {
        accounted += msg.value;
        pool += msg.value;
        emit Funded(msg.sender, msg.value);
    }

    // -------------------------------------------------------------------------------------------------- evidence

    /// @notice Punish a candidate for two signatures that contradict each other. It loses stake, its seat at the next
    /// election, and never validates again with this key.
    /// @param evidence the two signed messages as validators exchange them; checked natively, with this candidate's key.
    function report(uint32 number, bytes calldata evidence) external {
        Candidate storage candidate = _candidates[number];
        if (candidate.status == Status.None) revert NotACandidate(number);
        if (candidate.status == Status.Expelled) revert AlreadyDone(candidate.owner);
        (bool proven, bytes memory answer) = DOUBLE_SIGNING.staticcall(
            abi.encodePacked(uint64(block.chainid), candidate.keyHigh, candidate.keyLow, evidence)
        );
        if (!proven || answer.length != 32) revert NotProven();
        uint256 when = abi.decode(answer, (uint256));
        if (when > epoch || when + parameters.evidenceEpochs < epoch) revert EvidenceOutOfReach(when);
        uint256 amount = _slash(number, candidate, parameters.doubleSignShare, "double signing", msg.sender);
        uint256 reward = (amount * parameters.reporterShare) / ALL_BASIS_POINTS;
        owed[msg.sender] += reward;
        pool += amount - reward;
        _leave(number, Status.Expelled);
    }

    // ----------------------------------------------------------------------------------------------- useful work

    /// @notice Let the caller's verified work count for a candidate; 0 for none.
    function workFor(uint32 number) external {
        if (number != 0) _active(number);
        worksFor[msg.sender] = number;
    }

    /// @notice Count useful work of a provider that has been verified and paid. Only for candidates that do not validate
    /// now; for all others it is passed over.
    function credit(address worker, uint64 units) external {
        if (!mayCredit[msg.sender]) revert NotAllowed(msg.sender);
        uint32 number = worksFor[worker];
        if (number == 0) number = numberOf[worker];
        Candidate storage candidate = _candidates[number];
        if (candidate.status != Status.Active || candidate.seat != 0 || units == 0) return;
        uint256 sum = uint256(candidate.work) + units;
        uint64 capped = sum > type(uint32).max ? type(uint32).max : uint64(sum);
        _eraWork += capped - candidate.work;
        candidate.work = capped;
        emit WorkCredited(number, msg.sender, units);
    }

    // ---------------------------------------------------------------------------------------------------- voting

    /// @notice Propose to admit a member, on a network of fixed members.
    function proposeAdmission(
        address subject,
        bytes32 nodeId,
        bytes32 keyHigh,
        bytes16 keyLow,
        bytes calldata possession
    ) external returns (uint256 id) {
        if (parameters.open) revert NotAllowed(msg.sender);
        _checkKeys(subject, nodeId, keyHigh, keyLow, possession);
        return _propose(Proposal(Action.Admit, false, 0, subject, 0, nodeId, keyHigh, keyLow));
    }

    /// @notice Propose to remove a member, on a network of fixed members.
    function proposeRemoval(uint32 number) external returns (uint256 id) {
        if (parameters.open) revert NotAllowed(msg.sender);
        _active(number);
        return _propose(Proposal(Action.Remove, false, 0, address(0), number, 0, 0, 0));
    }

    /// @notice Propose that a contract may credit useful work, or may no longer.
    function proposeAuthority(address subject, bool granted) external returns (uint256 id) {
        Action action = granted ? Action.Authorise : Action.Revoke;
        return _propose(Proposal(action, false, 0, subject, 0, 0, 0, 0));
    }

    /// @notice Vote for a proposal; it is carried with more than two thirds of the votes. Members vote; where anybody may
    /// stake, the present validators do.
    function approve(uint256 id) public {
        Proposal storage proposal = proposals[id];
        if (proposal.deadline == 0) revert Unknown(id);
        if (proposal.done) revert AlreadyDone(msg.sender);
        if (block.timestamp > proposal.deadline) revert TooLate(proposal.deadline);
        if (!_votes(msg.sender)) revert NotAllowed(msg.sender);
        address[] storage approvals = _approvals[id];
        uint256 count = 1;
        for (uint256 i = 0; i < approvals.length; i++) {
            if (approvals[i] == msg.sender) revert AlreadyDone(msg.sender);
            if (_votes(approvals[i])) count++;
        }
        approvals.push(msg.sender);
        emit Approved(id, msg.sender);
        if (3 * count <= 2 * (parameters.open ? _seats.length : _live.length)) return;
        proposal.done = true;
        emit Carried(id);
        _carry(proposal);
    }

    // ------------------------------------------------------------------------------------------ the system's part

    /// @notice Once, in genesis. The value is the founders' stakes and the first content of the pool.
    function initialize(Parameters calldata parameters_, uint256 supply_, Founder[] calldata founders, address[] calldata creditors)
        external
        payable
        onlySystem
    {
        if (era != 0) revert AlreadyDone(msg.sender);
        _checkParameters(parameters_);
        parameters = parameters_;
        supply = supply_;
        era = 1;
        uint256 staked = 0;
        for (uint256 i = 0; i < founders.length; i++) {
            staked += founders[i].stake;
            uint32 number = _enter(founders[i]);
            _candidates[number].alternateFrom = 1;
            _candidates[number].alternateIn = 1;
            _next.push(number);
        }
        _alternateCount = _next.length.toUint32();
        _takeSeats();
        for (uint256 i = 0; i < creditors.length; i++) mayCredit[creditors[i]] = true;
        accounted = msg.value;
        pool = msg.value - staked;
    }

    /// @dev What a system call emits is in no receipt; whoever wants to know what it did reads the state.
    /// @notice After a block's transactions: who made it, and the tips it brought this contract.
    function endBlock(uint256 position, uint256 fees) external onlySystem {
        Seat storage seat = _seats[position];
        seat.blocks += 1;
        seat.fees += fees.toUint128();
        accounted += fees;
    }

    /// @notice Before an election: punish validators that had a turn in this epoch and made no block. Where more than f
    /// did not, the network failed rather than they, and nobody is punished.
    /// @param view_ the present view; position i proposes in the views that leave rest i, and views count from 1.
    function judge(uint256 view_) external onlySystem {
        if (!parameters.open) return;
        uint256 count = _seats.length;
        uint32[] memory idle = new uint32[](count);
        uint256 found = 0;
        for (uint256 i = 0; i < count; i++) {
            uint256 firstTurn = i == 0 ? count : i;
            if (_seats[i].blocks == 0 && firstTurn < view_) idle[found++] = _seats[i].candidate;
        }
        if (found > (count - 1) / 3) return;
        for (uint256 i = 0; i < found; i++) {
            Candidate storage candidate = _candidates[idle[i]];
            if (candidate.status != Status.Active) continue;
            candidate.jailedUntil = era + parameters.jailEras;
            pool += _slash(idle[i], candidate, parameters.idleShare, "no block", address(0));
        }
    }

    /// @notice The election's result: the next epoch's validators in their order and, for a new era, its alternates.
    function elected(uint32[] calldata numbers, uint32[] calldata alternates) external onlySystem {
        _next = numbers;
        for (uint256 i = 0; i < alternates.length; i++) {
            Candidate storage candidate = _candidates[alternates[i]];
            if (!_isAlternate(candidate)) candidate.alternateFrom = era + 1;
            candidate.alternateIn = era + 1;
        }
    }

    /// @notice New coins that `endEpoch` expects as its value.
    function issuance() external view returns (uint256) {
        return _endsEra() ? Math.mulDiv(supply, parameters.issuance, 10 ** 12) : 0;
    }

    /// @notice After an epoch's last transaction: who was elected takes the seats; an era may end.
    function endEpoch() external payable onlySystem {
        accounted += msg.value;
        supply += msg.value;
        for (uint256 i = 0; i < _seats.length; i++) {
            Seat memory seat = _seats[i];
            Candidate storage candidate = _candidates[seat.candidate];
            candidate.eraBlocks += seat.blocks;
            candidate.eraFees += seat.fees;
            _eraBlocks += seat.blocks;
        }
        bool settles = _endsEra();
        if (settles) _settle(msg.value);
        _takeSeats();
        epoch += 1;
        if (settles) era += 1;
    }

    /// @notice Whether this epoch is its era's last, so that its election chooses alternates too.
    function _endsEra() private view returns (bool) {
        return (uint256(epoch) + 1) % parameters.epochsPerEra == 0;
    }

    // ---------------------------------------------------------------------------------------------------- reading

    /// @notice Everybody who may be elected, and everybody who has a seat.
    /// @return endsEra whether alternates are to be chosen anew.
    function electorate() external view returns (bool endsEra, Elector[] memory electors) {
        endsEra = _endsEra();
        electors = new Elector[](_live.length);
        uint32 nextEra = endsEra ? era + 1 : era;
        for (uint256 i = 0; i < electors.length; i++) {
            uint32 number = _live[i];
            Candidate storage candidate = _candidates[number];
            electors[i] = Elector({
                number: number,
                keyHigh: candidate.keyHigh,
                keyLow: candidate.keyLow,
                stake: uint256(candidate.stake) + candidate.active + candidate.pending,
                bonus: candidate.bonus,
                since: candidate.since,
                fit: candidate.status == Status.Active && candidate.jailedUntil <= nextEra
                    && candidate.stake >= parameters.minimumStake,
                alternate: _isAlternate(candidate)
            });
        }
    }

    /// @notice The present validators in their order.
    function seated() external view returns (Member[] memory members) {
        members = new Member[](_seats.length);
        for (uint256 i = 0; i < members.length; i++) {
            Candidate storage candidate = _candidates[_seats[i].candidate];
            members[i] = Member(candidate.nodeId, candidate.owner, candidate.keyHigh, candidate.keyLow);
        }
    }

    function seats() external view returns (Seat[] memory) {
        return _seats;
    }

    function candidateOf(uint32 number) external view returns (Candidate memory) {
        return _candidates[number];
    }

    function live() external view returns (uint32[] memory) {
        return _live;
    }

    function delegationOf(address delegator, uint32 number) external view returns (Delegation memory) {
        return _delegations[delegator][number];
    }

    function frozenOf(address delegator) external view returns (Frozen[] memory) {
        return _frozen[delegator];
    }

    // ---------------------------------------------------------------------------------------------------- inside

    function _checkParameters(Parameters calldata p) private pure {
        if (p.epochsPerEra == 0) revert BadField("epochsPerEra");
        if (uint256(p.unstakeEras) * p.epochsPerEra <= p.evidenceEpochs) revert BadField("unstakeEras");
        if (p.open && (p.minimumStake == 0 || p.minimumDelegation == 0)) revert BadField("minimumStake");
        if (p.voteSeconds == 0 || p.voteSeconds > LONGEST_WAIT) revert BadField("voteSeconds");
        if (p.doubleSignShare > ALL_BASIS_POINTS) revert BadField("doubleSignShare");
        if (p.reporterShare > ALL_BASIS_POINTS) revert BadField("reporterShare");
        if (p.idleShare > ALL_BASIS_POINTS) revert BadField("idleShare");
        if (p.poolShare > ALL_BASIS_POINTS) revert BadField("poolShare");
        if (p.payoutShare > ALL_BASIS_POINTS) revert BadField("payoutShare");
        if (uint256(p.blockShare) + p.workShare > ALL_BASIS_POINTS) revert BadField("blockShare");
        if (p.mostBonus > ALL_BASIS_POINTS / 2 || p.workScale == 0) revert BadField("mostBonus");
        if (p.issuance > 10 ** 12) revert BadField("issuance");
    }

    function _checkKeys(address owner, bytes32 nodeId, bytes32 keyHigh, bytes16 keyLow, bytes calldata possession)
        private
        view
    {
        (bool proven, bytes memory answer) = REGISTRATION.staticcall(
            abi.encodePacked(uint64(block.chainid), owner, nodeId, keyHigh, keyLow, possession)
        );
        if (!proven || answer.length != 32) revert NotProven();
    }

    function _enter(Founder memory entry) private returns (uint32 number) {
        Candidate storage before = _candidates[numberOf[entry.owner]];
        if (before.status == Status.Active || before.unstaking != 0) revert AlreadyDone(entry.owner);
        bytes32 keyHash = keccak256(abi.encodePacked(entry.keyHigh, entry.keyLow));
        if (_keyUsed[keyHash] || _nodeUsed[entry.nodeId]) revert KeyTaken();
        if (_live.length == MAXIMUM_CANDIDATES) revert Full();
        _keyUsed[keyHash] = true;
        _nodeUsed[entry.nodeId] = true;
        number = ++candidateCount;
        numberOf[entry.owner] = number;
        Candidate storage candidate = _candidates[number];
        candidate.owner = entry.owner;
        candidate.status = Status.Active;
        candidate.nodeId = entry.nodeId;
        candidate.keyHigh = entry.keyHigh;
        candidate.keyLow = entry.keyLow;
        candidate.stake = entry.stake;
        _live.push(number);
        candidate.place = _live.length.toUint32();
        emit Registered(number, entry.owner, entry.nodeId);
        emit StakeChanged(number, entry.stake, 0);
    }

    function _own(Status status) private view returns (uint32 number, Candidate storage candidate) {
        number = numberOf[msg.sender];
        candidate = _candidates[number];
        if (candidate.status != status) revert NotACandidate(number);
    }

    function _active(uint32 number) private view returns (Candidate storage candidate) {
        candidate = _candidates[number];
        if (candidate.status != Status.Active) revert NotACandidate(number);
    }

    /// All its stake begins to freeze; it keeps a seat it has until the epoch ends.
    function _leave(uint32 number, Status status) private {
        Candidate storage candidate = _candidates[number];
        candidate.status = status;
        uint128 stake = candidate.stake;
        candidate.stake = 0;
        _eraWork -= candidate.work;
        candidate.work = 0;
        _freezeStake(number, candidate, stake);
        emit Left(number, candidate.freeIn);
        if (candidate.seat == 0 && candidate.place != 0) _forget(number, candidate);
    }

    function _freezeStake(uint32 number, Candidate storage candidate, uint128 amount) private {
        candidate.unstaking += amount;
        candidate.freeIn = era + parameters.unstakeEras;
        emit StakeChanged(number, candidate.stake, candidate.unstaking);
    }

    /// Takes a candidate that has left off the list; its node may register again, its key never.
    function _forget(uint32 number, Candidate storage candidate) private {
        uint32 last = _live[_live.length - 1];
        _live[candidate.place - 1] = last;
        _candidates[last].place = candidate.place;
        _live.pop();
        candidate.place = 0;
        _nodeUsed[candidate.nodeId] = false;
        uint256 fees = candidate.eraFees;
        candidate.eraFees = 0;
        _share(number, candidate, fees);
    }

    function _slash(uint32 number, Candidate storage candidate, uint256 share, bytes32 reason, address reporter)
        private
        returns (uint256 amount)
    {
        amount = ((uint256(candidate.stake) + candidate.unstaking) * share) / ALL_BASIS_POINTS;
        uint128 fromStake = amount < candidate.stake ? uint128(amount) : candidate.stake;
        candidate.stake -= fromStake;
        candidate.unstaking -= uint128(amount) - fromStake;
        emit Slashed(number, reason, amount, reporter);
        emit StakeChanged(number, candidate.stake, candidate.unstaking);
    }

    /// Delegations made in an earlier era earn from now on.
    function _roll(uint32 number, Candidate storage candidate) private {
        if (candidate.pending == 0 || candidate.pendingIn == era) return;
        _perUnitAfter[number][candidate.pendingIn] = candidate.perUnit;
        candidate.active += candidate.pending;
        candidate.pending = 0;
    }

    /// Brings a delegation up to date and moves what it earned to what is owed.
    function _sync(address delegator, uint32 number) private returns (Delegation storage delegation) {
        Candidate storage candidate = _candidates[number];
        if (candidate.status == Status.None) revert NotACandidate(number);
        _roll(number, candidate);
        delegation = _delegations[delegator][number];
        uint256 earned = Math.mulDiv(delegation.active, candidate.perUnit - delegation.paidPerUnit, SCALE);
        if (delegation.pending != 0 && delegation.pendingIn != era) {
            uint256 since = _perUnitAfter[number][delegation.pendingIn];
            earned += Math.mulDiv(delegation.pending, candidate.perUnit - since, SCALE);
            delegation.active += delegation.pending;
            delegation.pending = 0;
        }
        delegation.paidPerUnit = candidate.perUnit;
        if (earned != 0) {
            candidate.reserve -= earned.toUint128();
            owed[delegator] += earned;
            emit Claimed(delegator, number, earned);
        }
    }

    /// Divides what a candidate earned between its owner and its delegators; returns the latter's part.
    function _share(uint32 number, Candidate storage candidate, uint256 amount) private returns (uint256 part) {
        if (amount == 0) return 0;
        _roll(number, candidate);
        if (candidate.active != 0) {
            part = (amount * candidate.share) / ALL_BASIS_POINTS;
            candidate.reserve += part.toUint128();
            candidate.perUnit += Math.mulDiv(part, SCALE, candidate.active);
        }
        owed[candidate.owner] += amount - part;
    }

    function _settle(uint256 issued) private {
        uint256 surplus = address(this).balance - accounted;
        accounted += surplus;
        uint256 toPool = (issued * parameters.poolShare) / ALL_BASIS_POINTS;
        owed[parameters.treasury] += issued - toPool;
        uint256 held = pool + toPool + surplus;
        uint256 budget = (held * parameters.payoutShare) / ALL_BASIS_POINTS;
        uint256 forBlocks = (budget * parameters.blockShare) / ALL_BASIS_POINTS;
        uint256 forWork = (budget * parameters.workShare) / ALL_BASIS_POINTS;
        uint256 each = _alternateCount == 0 ? 0 : (budget - forBlocks - forWork) / _alternateCount;
        uint256 paid = 0;
        uint256 alternates = 0;
        for (uint256 i = 0; i < _live.length; i++) {
            uint32 number = _live[i];
            Candidate storage candidate = _candidates[number];
            uint256 gain = 0;
            if (_isAlternate(candidate) && candidate.status == Status.Active) gain += each;
            if (candidate.alternateIn > era) alternates++;
            if (candidate.eraBlocks != 0) gain += (forBlocks * candidate.eraBlocks) / _eraBlocks;
            uint256 work = candidate.work;
            if (work != 0) gain += (forWork * work) / _eraWork;
            uint16 bonus = uint16((uint256(parameters.mostBonus) * work) / (work + parameters.workScale));
            uint256 fees = candidate.eraFees;
            if (candidate.eraBlocks != 0 || work != 0 || fees != 0 || bonus != candidate.bonus) {
                candidate.eraBlocks = 0;
                candidate.work = 0;
                candidate.eraFees = 0;
                candidate.bonus = bonus;
            }
            paid += gain;
            _share(number, candidate, gain + fees);
        }
        pool = held - paid;
        _alternateCount = alternates.toUint32();
        _eraBlocks = 0;
        _eraWork = 0;
    }

    function _isAlternate(Candidate storage candidate) private view returns (bool) {
        return candidate.alternateFrom <= era && era <= candidate.alternateIn;
    }

    function _takeSeats() private {
        uint32 term = era == 1 && _seats.length == 0 ? 1 : epoch + 2;
        uint256 old = _seats.length;
        uint32[] memory former = new uint32[](old);
        for (uint256 i = 0; i < old; i++) {
            former[i] = _seats[i].candidate;
            _candidates[former[i]].seat = 0;
        }
        uint32[] memory next = _next;
        if (next.length == 0) next = former;
        delete _seats;
        delete _next;
        for (uint256 i = 0; i < next.length; i++) {
            Candidate storage candidate = _candidates[next[i]];
            _seats.push(Seat(next[i], 0, 0));
            candidate.seat = uint32(i) + 1;
            if (candidate.since == 0) candidate.since = term;
        }
        for (uint256 i = 0; i < old; i++) {
            Candidate storage candidate = _candidates[former[i]];
            if (candidate.seat != 0) continue;
            candidate.since = 0;
            if (candidate.status != Status.Active && candidate.place != 0) _forget(former[i], candidate);
        }
    }

    function _votes(address account) private view returns (bool) {
        Candidate storage candidate = _candidates[numberOf[account]];
        return candidate.status == Status.Active && (!parameters.open || candidate.seat != 0);
    }

    function _propose(Proposal memory proposal) private returns (uint256 id) {
        proposal.deadline = (block.timestamp + parameters.voteSeconds).toUint64();
        id = ++proposalCount;
        proposals[id] = proposal;
        emit Proposed(id, proposal.action, proposal.subject, proposal.number);
        approve(id);
    }

    function _carry(Proposal storage proposal) private {
        if (proposal.action == Action.Admit) {
            _enter(Founder(proposal.subject, proposal.nodeId, proposal.keyHigh, proposal.keyLow, 0));
        } else if (proposal.action == Action.Remove) {
            _active(proposal.number);
            if (_live.length == 1) revert NotEnough(1, 2);
            _leave(proposal.number, Status.Leaving);
        } else {
            mayCredit[proposal.subject] = proposal.action == Action.Authorise;
        }
    }
}
