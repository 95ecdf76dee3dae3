"""To and from diffusers: exports that its stock pipelines load, imports of their folders, our tables as a scheduler."""
