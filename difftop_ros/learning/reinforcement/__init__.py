"""Learning by trying: a latent model, a value and a prior from what happened, the policy gradient through the plan."""
