//! Measures adit: load generation, comparisons and reports.
