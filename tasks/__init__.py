"""The only code that touches disk, network, clock, environment, Prefect or MLflow."""
