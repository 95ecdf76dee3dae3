"""What is true: derivations checked by machine, one file a topic, reading like lecture notes.

Conventions: data at t = 0, noise at t = 1; x_t = alpha_t x_0 + sigma_t eps; a step goes from t to s < t. `ledger.toml`
lists every statement the suite sets out to prove; a claim says which rows it covers.
"""
