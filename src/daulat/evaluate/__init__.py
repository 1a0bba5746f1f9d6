"""Evidence: tasks, metrics, and comparisons of endpoints on the same examples.

`examples` what is asked and what is right, `rows` `columns` `filling` files of it, `recorded` traffic of it,
`tasks` where it is kept; `metrics` what an answer is worth; `asking` how an answer is got; `running`
`answers` getting them all, once each, within a budget; `comparing` what that says. Everything that is asked
walks through the hall: this room is handed a way to ask (`asking.Asking`) and knows no endpoint.
"""
