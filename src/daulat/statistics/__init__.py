"""Numbers in, numbers out: intervals, paired comparisons, win rates, sample sizes.

`samples` has what figures come back as, `intervals` means and shares, `bootstrap`, `percentiles` and `ratios`
what these do not cover, `paired` two endpoints on the same examples, `significance` tests of no difference,
`multiple` slices, `preferences`, `length_control` and `bradley_terry` judges' verdicts, `power` sample sizes,
`prediction_powered` judges corrected by humans; `clusters` and `special` serve them. Derivations and
assumptions: docs/statistics.md. Not here: tasks, endpoints, files, what a figure means for a decision.
"""
