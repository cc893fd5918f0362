"""The main job as one page: study, train, publish, harden, validate, name, serve, pay, audit."""
