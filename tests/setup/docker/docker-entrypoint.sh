#!/bin/sh
# What docker:cli starts with: where nothing says which daemon is meant, it is the one that the service `docker` runs, with
# its certificates where it left some.
set -eu
certificates=${DOCKER_TLS_CERTDIR:-/certs}/client
if [ -z "${DOCKER_HOST-}" ] && [ ! -S /var/run/docker.sock ]; then
  if [ -f "$certificates/cert.pem" ]; then
    export DOCKER_HOST=tcp://docker:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH="$certificates"
  else
    export DOCKER_HOST=tcp://docker:2375
  fi
fi
exec "$@"
