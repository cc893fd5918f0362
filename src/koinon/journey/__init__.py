"""The main job as one page (``story``): study, train, publish, harden, validate, name, serve, pay, audit."""
