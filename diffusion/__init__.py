"""What runs: torch only. Every formula is a small pure function bound to a theorem by its id.

Conventions, everywhere in this project:

- time t in [0, 1], data at t = 0, noise at t = 1; a step goes from t to s < t;
- discrete chains: t_k = k/T, alpha_bar(0) = 1;
- x_t = alpha_t x_0 + sigma_t eps; alpha and sigma are scales, not variances;
- alpha_bar = alpha^2 only where DDPM is quoted;
- half_log_snr = log(alpha / sigma);
- batch first; t is a scalar or [batch]; a wrong shape is refused, never broadcast in silence;
- randomness comes from an explicit torch.Generator.
"""
