"""Train networks: `recipe` has the settings, `fit` trains, `lightning_module` defines loss, optimizer and metrics."""
