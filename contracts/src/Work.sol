// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AlreadyDone, BadField, WrongPhase} from "./Common.sol";
import {Score} from "./Consensus.sol";
import {Evaluations} from "./Evaluations.sol";
import {Studies} from "./Studies.sol";

/// @notice The part of the staking contract that counts useful work.
interface IStaking {
    function credit(address worker, uint64 units) external;
}

/// @title From finished studies and evaluations to the weight of those who did the work
/// @notice Anyone reports a study that completed or a request that was finalised, once; its paid providers are credited
/// with the staking contract. That contract must have authorised this one, in genesis or by vote. Studies and
/// evaluations know nothing of it, so the suite stays usable on chains without staking.
contract Work {
    IStaking public immutable staking;
    Studies public immutable studies;
    Evaluations public immutable evaluations;
    uint64 public immutable studyUnits;
    uint64 public immutable evaluationUnits;

    mapping(uint256 studyId => bool) public studyCredited;
    mapping(uint256 requestId => bool) public requestCredited;

    /// @param studyUnits_ for each committee member of a completed study; `evaluationUnits_` for each evaluator that
    /// revealed and was no wilful outlier.
    constructor(
        IStaking staking_,
        Studies studies_,
        Evaluations evaluations_,
        uint64 studyUnits_,
        uint64 evaluationUnits_
    ) {
        if (studyUnits_ == 0 || evaluationUnits_ == 0) revert BadField("units");
        staking = staking_;
        studies = studies_;
        evaluations = evaluations_;
        studyUnits = studyUnits_;
        evaluationUnits = evaluationUnits_;
    }

    /// @notice Credit the committee of a completed study.
    function creditStudy(uint256 studyId) external {
        Studies.Study memory study = studies.studyOf(studyId);
        if (study.phase != Studies.Phase.Completed) revert WrongPhase(uint8(study.phase));
        if (studyCredited[studyId]) revert AlreadyDone(study.publisher);
        studyCredited[studyId] = true;
        for (uint256 i = 0; i < study.committee.length; i++) {
            staking.credit(study.committee[i], studyUnits);
        }
    }

    /// @notice Credit the evaluators that a finalised request paid.
    function creditEvaluation(uint256 requestId) external {
        Evaluations.Request memory entry = evaluations.requestOf(requestId);
        if (entry.phase != Evaluations.Phase.Finalised) revert WrongPhase(uint8(entry.phase));
        if (requestCredited[requestId]) revert AlreadyDone(entry.requester);
        requestCredited[requestId] = true;
        (, Score[] memory medians) = evaluations.vectorOf(requestId);
        uint64[] memory tolerances = evaluations.termsOf(requestId).tolerances;
        for (uint256 i = 0; i < entry.evaluators.length; i++) {
            Evaluations.Report memory report = evaluations.reportOf(requestId, entry.evaluators[i]);
            if (report.revealed && !_isOutlier(report.scores, medians, tolerances)) {
                staking.credit(entry.evaluators[i], evaluationUnits);
            }
        }
    }

    /// The rule of `Consensus.agree`, with the medians it came to.
    function _isOutlier(Score[] memory scores, Score[] memory medians, uint64[] memory tolerances)
        private
        pure
        returns (bool)
    {
        for (uint256 i = 0; i < medians.length; i++) {
            int256 middle = medians[i].value;
            int256 tolerance = int256(uint256(tolerances[i]));
            if (scores[i].low > middle + tolerance || scores[i].high < middle - tolerance) return true;
        }
        return false;
    }
}
