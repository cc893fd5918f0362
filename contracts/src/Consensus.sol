// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice One criterion as one evaluator measured it, in parts per million of the criterion's unit.
struct Score {
    int64 value;
    int64 low;
    int64 high;
}

/// @title Medians of what evaluators revealed, and who is a wilful outlier
library Consensus {
    /// @param scores by evaluator, then criterion; at least two evaluators.
    /// @param tolerances by criterion.
    /// @return vector medians of the values, of the lower ends and of the upper ends. Of an even number, the mean of
    /// the two in the middle, rounded towards minus infinity.
    /// @return outliers evaluators for whom some interval ends further than the tolerance from the median value.
    /// @return agreed whether the outliers are a minority. Otherwise nobody can say who is wrong.
    function agree(Score[][] memory scores, uint64[] memory tolerances)
        internal
        pure
        returns (Score[] memory vector, bool[] memory outliers, bool agreed)
    {
        vector = new Score[](tolerances.length);
        outliers = new bool[](scores.length);
        int64[] memory column = new int64[](scores.length);
        for (uint256 criterion = 0; criterion < tolerances.length; criterion++) {
            for (uint256 i = 0; i < column.length; i++) column[i] = scores[i][criterion].value;
            vector[criterion].value = median(column);
            for (uint256 i = 0; i < column.length; i++) column[i] = scores[i][criterion].low;
            vector[criterion].low = median(column);
            for (uint256 i = 0; i < column.length; i++) column[i] = scores[i][criterion].high;
            vector[criterion].high = median(column);
            int256 middle = vector[criterion].value;
            int256 tolerance = int256(uint256(tolerances[criterion]));
            for (uint256 i = 0; i < column.length; i++) {
                Score memory score = scores[i][criterion];
                if (score.low > middle + tolerance || score.high < middle - tolerance) outliers[i] = true;
            }
        }
        uint256 count = 0;
        for (uint256 i = 0; i < outliers.length; i++) {
            if (outliers[i]) count++;
        }
        agreed = 2 * count < outliers.length;
    }

    /// Sorts `column` in place.
    function median(int64[] memory column) internal pure returns (int64) {
        for (uint256 i = 1; i < column.length; i++) {
            int64 value = column[i];
            uint256 j = i;
            for (; j > 0 && column[j - 1] > value; j--) column[j] = column[j - 1];
            column[j] = value;
        }
        uint256 half = column.length / 2;
        if (column.length % 2 == 1) return column[half];
        return int64((int256(column[half - 1]) + int256(column[half])) >> 1);
    }
}
