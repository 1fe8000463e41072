-- Run once by PostgreSQL's image, on an empty volume: a role and databases for each server.
-- Neither role can read what the other keeps; the passwords come from the environment.
\getenv prefect_password PREFECT_DATABASE_PASSWORD
\getenv mlflow_password MLFLOW_DATABASE_PASSWORD

CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';

CREATE DATABASE prefect OWNER prefect;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_accounts OWNER mlflow;

REVOKE CONNECT ON DATABASE prefect, mlflow, mlflow_accounts FROM PUBLIC;
