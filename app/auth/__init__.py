"""Who may do what, and how much of it: keys, tokens, scopes, rates, quotas, and the record of it all."""
