#!/bin/sh
# What docker:dind starts with: a daemon that is reached over TCP, on 2376 with certificates that it makes itself below
# DOCKER_TLS_CERTDIR (clients find theirs in client/), or on 2375 without any where that is empty. Options are the daemon's.
set -eu
case ${1--} in
  -*) ;;
  *) exec docker-entrypoint.sh "$@" ;;
esac

if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  # cgroup v2: a group with processes of its own may not hand controllers to children, so they move one down.
  mkdir -p /sys/fs/cgroup/init
  xargs -rn1 </sys/fs/cgroup/cgroup.procs >/sys/fs/cgroup/init/cgroup.procs || true
  sed -e 's/ / +/g' -e 's/^/+/' </sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
fi

certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "$@"
}

# sign <folder> <extension>: a key, and a certificate by the authority in ca/.
sign() {
  mkdir -p "$1"
  certificate -subj "/CN=docker:dind $1" -CA ca/cert.pem -CAkey ca/key.pem -addext basicConstraints=critical,CA:FALSE \
    -addext "$2" -keyout "$1/key.pem" -out "$1/cert.pem"
  cp ca/cert.pem "$1/ca.pem"
}

if [ -n "${DOCKER_TLS_CERTDIR-}" ]; then
  mkdir -p "$DOCKER_TLS_CERTDIR/ca"
  cd "$DOCKER_TLS_CERTDIR"
  certificate -subj '/CN=docker:dind authority' -keyout ca/key.pem -out ca/cert.pem
  sign server "subjectAltName=DNS:docker,DNS:localhost,DNS:$(hostname),IP:127.0.0.1"
  sign client extendedKeyUsage=clientAuth
  set -- --host=tcp://0.0.0.0:2376 --tlsverify --tlscacert="$PWD/server/ca.pem" --tlscert="$PWD/server/cert.pem" \
    --tlskey="$PWD/server/key.pem" "$@"
else
  # Said, because a daemon that is not told so waits a quarter of a minute to be seen.
  set -- --host=tcp://0.0.0.0:2375 --tls=false "$@"
fi
exec docker-init -- dockerd --host=unix:///var/run/docker.sock "$@"
