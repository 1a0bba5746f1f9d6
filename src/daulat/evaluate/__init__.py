"""Evidence: tasks, metrics, comparisons of endpoints on the same examples, and certificates.

`examples` what is asked and what is right, `rows` `columns` `filling` files of it, `recorded` traffic of it,
`tasks` where it is kept; `metrics` what an answer is worth; `asking` how an answer is got; `running`
`answers` getting them all, once each, within a budget; `comparing` what that says. `splitting` `thresholds`
`certifying` how little of a closed endpoint keeps its quality, `certificates` where that is kept, `standing`
whether it still holds, `serving` what requests follow of it. Everything that is asked walks through the hall:
this room is handed a way to ask (`asking.Asking`) and knows no endpoint.
"""
