"""Train networks: `recipe` has the settings, `fit` trains, `lightning_module` is what Lightning runs."""
