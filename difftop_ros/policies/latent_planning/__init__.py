"""Policies that learn by trying and plan in a learned latent model: difftop_rl, tdmpc, prior. No training loop here."""
