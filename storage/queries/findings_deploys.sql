-- Versions of services and models with the first hour of each on an endpoint.
SELECT service, environment, endpoint, service_version, model, model_version, first_hour
FROM deploys
ORDER BY service, environment, endpoint, first_hour, service_version, model, model_version
