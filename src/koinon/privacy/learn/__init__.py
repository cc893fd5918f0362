"""Estimators on secret arrays, with scikit-learn's names: fit, predict, score."""
