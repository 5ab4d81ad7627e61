#!/bin/sh
# The instance's first process: what a cloud image's boot does, in a container. Ends as sshd.
# MIRROR is the registry that answers for Docker Hub; /run/keys is the metadata service's list of authorised keys.
set -e

if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  # cgroup v2: a group with processes of its own may not hand controllers to children, so they move one down.
  mount -o remount,rw /sys/fs/cgroup
  mkdir -p /sys/fs/cgroup/init
  xargs -rn1 </sys/fs/cgroup/cgroup.procs >/sys/fs/cgroup/init/cgroup.procs || true
  sed -e 's/ / +/g' -e 's/^/+/' </sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control || true
else
  # cgroup v1: only a bind remount makes the controllers writable.
  for controller in /sys/fs/cgroup /sys/fs/cgroup/*; do
    if mountpoint -q "$controller"; then mount -o remount,bind,rw "$controller"; fi
  done
fi

ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
mkdir -p /run/sshd /etc/docker
# No name leads out of the lab; Docker's own resolver would take 20 s to say so.
echo 'nameserver 127.0.0.1' >/etc/resolv.conf
# Without a name server of its own Docker would give job containers one on the internet.
cat >/etc/docker/daemon.json <<JSON
{
  "registry-mirrors": ["$MIRROR"],
  "insecure-registries": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"],
  "dns": ["127.0.0.1"],
  "runtimes": { "nosysres": { "path": "/usr/local/sbin/runc-nosysres" } },
  "default-runtime": "nosysres"
}
JSON
dockerd >/var/log/dockerd.log 2>&1 &
exec /usr/sbin/sshd -D -e
