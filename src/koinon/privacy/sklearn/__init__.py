"""Estimators with scikit-learn's names and attributes that fit on rows nobody shows.

``from koinon.privacy.sklearn.linear_model import LogisticRegression`` in place of scikit-learn's import: ``fit`` shares
the rows among four parties and opens the coefficients only; what comes after it is scikit-learn's own.
"""
