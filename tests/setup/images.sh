#!/usr/bin/env bash
# The images of the lab: the instance (sshd and Docker Engine on Debian), and the registry that stands for Docker Hub with
# what it has: busybox, docker:cli and docker:dind.
# One argument names the Debian release: bookworm (the default; Docker 20.10) or trixie (Docker 26.1).
. "$(dirname "$0")/common.sh"

suite=${1:-bookworm}
here=$root/tests/setup
instance=fleetling-lab/instance:$suite
registry=fleetling-lab/registry:latest

packages=openssh-server,docker.io,iptables,iproute2,ca-certificates,procps,docker-registry,busybox-static
case $suite in
  bookworm) ;;
  trixie) packages=$packages,docker-cli ;;
  *) fail "'$suite' is no instance image of the lab" "bookworm or trixie" ;;
esac

# An image is as old as what it was made from.
recipe=$(cat "$0" "$here"/instance/* "$here"/docker/* | sha256sum | cut -c1-16)
made() { [ "$(docker image inspect -f '{{index .Config.Labels "fleetling-lab.recipe"}}' "$1" 2>/dev/null)" = "$recipe" ]; }

build_rootfs() {
  local tar=$lab/cache/rootfs-$suite-$(printf '%s' "$packages" | sha256sum | cut -c1-8).tar
  if [ ! -s "$tar" ]; then
    need debootstrap=debootstrap
    say "making a Debian $suite root file system, once (about a minute)"
    local tree=$lab/cache/rootfs-$suite
    as_root rm -rf --one-file-system "$tree"
    as_root debootstrap --variant=minbase --include="$packages" "$suite" "$tree" "$(mirror)" >"$lab/debootstrap-$suite.log" 2>&1 || fail \
      "debootstrap could not make Debian $suite (see $lab/debootstrap-$suite.log)" "check that the Debian mirror $(mirror) can be reached"
    for mounted in "$tree/proc" "$tree/sys"; do # debootstrap may leave them
      if mountpoint -q "$mounted"; then as_root umount -l "$mounted"; fi
    done
    as_root sh -c "rm -rf '$tree'/var/cache/apt/archives/*.deb '$tree'/var/lib/apt/lists/* '$tree'/usr/share/doc/* '$tree'/usr/share/man/* \
      '$tree'/usr/share/locale/* '$tree'/etc/ssh/ssh_host_*"
    as_root tar --one-file-system -C "$tree" -cf "$tar.part" .
    as_root rm -rf --one-file-system "$tree"
    as_root chown "$(id -u):$(id -g)" "$tar.part"
    mv "$tar.part" "$tar"
  fi
  printf '%s' "$tar"
}

build_instance() {
  local tar
  tar=$(build_rootfs)
  say "importing the instance image $instance"
  docker import "$tar" "fleetling-lab/base:$suite" >/dev/null
  docker build -q -t "$instance" --label "fleetling-lab.recipe=$recipe" -f - "$here/instance" >"$lab/build.log" 2>&1 <<DOCKERFILE
FROM fleetling-lab/base:$suite
COPY entry.sh /entry.sh
COPY runc-nosysres /usr/local/sbin/runc-nosysres
COPY sshd.conf /etc/ssh/sshd_config.d/lab.conf
RUN chmod 755 /entry.sh /usr/local/sbin/runc-nosysres && useradd -m -s /bin/bash -G docker ec2-user
VOLUME /var/lib/docker
ENTRYPOINT ["/entry.sh"]
DOCKERFILE
  [ -n "$(docker images -q "$instance")" ] || fail "the instance image could not be built" "read $lab/build.log"
}

build_busybox() {
  docker run --rm --entrypoint sh "$instance" -c '
    mkdir -p /img/bin /img/etc /img/tmp /img/root; chmod 1777 /img/tmp; cp /usr/bin/busybox /img/bin/busybox
    for name in $(/usr/bin/busybox --list); do [ "$name" = busybox ] || ln -s busybox /img/bin/$name; done
    printf "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n" >/img/etc/passwd
    printf "root:x:0:\nnogroup:x:65534:\n" >/img/etc/group
    tar -C /img -c .' | docker import -c 'CMD ["sh"]' - fleetling-lab/busybox:latest >/dev/null
}

# The instance's own Docker, without what a job and its service have no use for: every instance unpacks it anew.
build_docker() {
  local image
  docker run --rm --entrypoint sh "$instance" -c '
    tar -C / -c --one-file-system --exclude-from=- . <<EOF
./.dockerenv
./entry.sh
./usr/bin/containerd-shim
./usr/bin/containerd-shim-runc-v1
./usr/bin/ctr
./usr/bin/dnet
./usr/bin/docker-registry
./usr/bin/perl*
./usr/sbin/ovrouter
./usr/sbin/sshd
./usr/share
./var/cache/*
EOF' | docker import - fleetling-lab/docker:files >/dev/null
  for image in cli dind; do
    docker build -q -t "fleetling-lab/docker:$image" --target "$image" -f - "$here/docker" >"$lab/build.log" 2>&1 <<DOCKERFILE ||
FROM fleetling-lab/docker:files AS cli
COPY docker-entrypoint.sh dockerd-entrypoint.sh /usr/local/bin/
ENV DOCKER_TLS_CERTDIR=/certs
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["sh"]

FROM cli AS dind
VOLUME /var/lib/docker
EXPOSE 2375 2376
ENTRYPOINT ["dockerd-entrypoint.sh"]
CMD []
DOCKERFILE
      fail "docker:$image could not be built" "read $lab/build.log"
  done
}

# Filled by pushes over loopback, which every Docker Engine takes without TLS, and kept as an image with its content.
build_registry() {
  say "filling the registry image $registry"
  local port name pushed
  build_busybox
  build_docker
  filler=$(docker run -d -p 127.0.0.1::5000 --label fleetling-lab.setup=registry --entrypoint sh "$instance" -c '
    mkdir -p /registry
    printf "version: 0.1\nstorage: { filesystem: { rootdirectory: /registry } }\nhttp: { addr: 0.0.0.0:5000 }\n" >/etc/registry.yml
    exec docker-registry serve /etc/registry.yml')
  trap 'docker rm -fv "$filler" >/dev/null 2>&1 || true' EXIT
  port=$(docker port "$filler" 5000/tcp | head -n 1 | sed 's/.*://')
  for name in busybox:latest docker:cli docker:dind; do
    pushed=
    docker tag "fleetling-lab/$name" "127.0.0.1:$port/library/$name"
    for _ in $(seq 50); do
      if docker push -q "127.0.0.1:$port/library/$name" >"$lab/push.log" 2>&1; then pushed=yes; break; fi
      sleep 0.2
    done
    [ -n "$pushed" ] || fail "$name could not be pushed to the lab's registry" "read $lab/push.log"
    docker rmi "127.0.0.1:$port/library/$name" >/dev/null
  done
  docker commit -c 'ENTRYPOINT ["docker-registry", "serve", "/etc/registry.yml"]' -c 'CMD []' \
    -c "LABEL fleetling-lab.recipe=$recipe" "$filler" "$registry" >/dev/null
  docker rmi fleetling-lab/docker:{dind,cli,files} >/dev/null # the registry has them
}

made "$instance" || build_instance
[ "$suite" != bookworm ] || made "$registry" || build_registry
