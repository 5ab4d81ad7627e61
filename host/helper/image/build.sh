#!/usr/bin/env bash
# Builds the helper image from Debian packages and our helper, without a container engine: build.sh OUT_DIR HELPER
#
# Writes, for the architecture of this machine's Debian (amd64, arm64):
#   OUT_DIR/helper-image-<arch>.tar.gz   what `docker load` reads; tag fleetling-helper:<version>
#   OUT_DIR/helper-image-<arch>.id       the image id, sha256:…: the digest of the image's configuration
#   OUT_DIR/helper-image-<arch>.inputs   what it was made from; unchanged inputs mean nothing to do
#   OUT_DIR/helper-base-<arch>.*         its first layer, the packages; made anew, from the network, only for a new recipe
#
# The same package versions and the same helper give the same id. The helper is a layer of its own, /fleetling-helper: a
# new one costs an instance no second copy of the packages.
set -euo pipefail

PACKAGES="git git-lfs ca-certificates bash busybox"
# Dependencies that nothing in the image calls: git needs perl for `send-email`, `svn` and a few more alone, and
# ca-certificates its tools only for updates.
LEAVE_OUT="^(perl.*|libperl.*|liberror-perl|libgdbm.*|libdb5.*|debconf|cdebconf|libdebian-installer.*|libtextwrap.*|libnewt.*|libslang.*|git-man|.*awk|libmpfr.*|libgmp-ocaml|libsigsegv.*|libreadline.*|readline-common|dpkg|tar|install-info|openssl|coreutils|debianutils|dash|libacl.*|libattr.*|libselinux.*|libmd0|gcc-.*-base|liblzma.*|libbz2.*|libsasl2-modules.*)$"
MAX_BYTES=$((40 * 1024 * 1024))

stop() { printf 'helper image: %s\n' "$*" >&2; exit 1; }

[ $# = 2 ] || stop "usage: build.sh OUT_DIR HELPER"
helper=$2
[ -s "$helper" ] || stop "the helper $helper is missing; \`make helper\` builds it"
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' "$here/../../../Cargo.toml")
[ -n "$version" ] || stop "no version found in the workspace's Cargo.toml"
if ! command -v dpkg > /dev/null; then
  stop "dpkg is missing: this image is made of Debian's packages, build it on Debian 12 or later"
fi
arch=$(dpkg --print-architecture)
name=helper-image-$arch

base=$out/helper-base-$arch
recipe=$({ echo "$arch"; cat "$here/build.sh"; } | sha256sum | cut -d' ' -f1)
inputs=$({ echo "$version $recipe"; cat "$helper"; } | sha256sum | cut -d' ' -f1)
if [ -s "$out/$name.tar.gz" ] && [ -s "$out/$name.id" ] \
  && [ "$(cat "$out/$name.inputs" 2> /dev/null)" = "$inputs" ]; then
  echo "helper image: $out/$name.tar.gz is up to date ($(cat "$out/$name.id"))"
  exit 0
fi

for tool in apt-get apt-cache dpkg-deb tar gzip sha256sum find sort; do
  command -v "$tool" > /dev/null \
    || stop "$tool is missing; on Debian: apt-get install apt dpkg tar gzip coreutils findutils"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
image=$work/image
mkdir -p "$image"
# Owners, times and order fixed.
pack() { tar -c -C "$1" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu "${@:2}"; }

make_base() {
  local root=$work/root
  mkdir -p "$work/debs" "$root"

  # Which packages: the closure of hard dependencies, less what is left out.
  closure=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
    --no-enhances $PACKAGES 2> /dev/null | grep '^[a-z]' | grep -v ':' | sort -u | grep -Ev "$LEAVE_OUT") || true
  for package in $PACKAGES; do
    grep -qx "$package" <<< "$closure" \
      || stop "Debian's package $package is unknown here; run \`apt-get update\` as root and try again"
  done
  wanted=""
  for package in $closure; do
    # A virtual package has no version of its own; one of its providers is in the closure.
    if apt-cache show --no-all-versions "$package" > /dev/null 2>&1; then wanted="$wanted $package"; fi
  done
  echo "helper image: fetching$wanted"
  chmod 777 "$work" "$work/debs" # apt drops its rights to download
  (cd "$work/debs" && apt-get download -qq $wanted) \
    || stop "the packages could not be fetched; check the network, run \`apt-get update\` as root and try again"

  # Unpack beneath merged directories, without what a container never reads.
  for dir in bin sbin lib lib64; do
    mkdir -p "$root/usr/$dir"
    ln -s "usr/$dir" "$root/$dir"
  done
  for deb in "$work"/debs/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink --no-same-owner \
      --exclude='./usr/share/man' --exclude='./usr/share/locale' --exclude='./usr/share/info' \
      --exclude='./usr/share/lintian' --exclude='./usr/share/bash-completion' --exclude='./usr/share/bug' \
      --exclude='./usr/share/gitweb' --exclude='./usr/share/perl*' --exclude='./usr/share/doc-base' \
      --exclude='./usr/share/menu' --exclude='./usr/share/initramfs-tools' --exclude='./usr/lib/*/gconv' \
      --exclude='./etc/skel' --exclude='./etc/init.d' --exclude='./etc/cron*'
  done
  find "$root/usr/share/doc" -type f ! -name copyright -delete
  find "$root/usr/share/doc" -type l -delete
  find "$root/usr/share/doc" -depth -type d -empty -delete
  # Parts of git that need perl, python or a display, or that serve repositories.
  (cd "$root/usr/lib/git-core" && rm -f git-add--interactive git-archimport git-cvs* git-send-email git-svn \
    git-instaweb git-p4 git-gui* git-citool git-daemon git-http-backend git-shell git-imap-send git-request-pull \
    git-filter-branch)
  rm -rf "$root/usr/bin/scalar" "$root/usr/bin/git-shell" "$root/usr/share/git-core/contrib" "$root/var/lib/git"

  # Busybox stands in for every tool that no package brought.
  "$root/usr/bin/busybox" --list-full > "$work/applets" 2> /dev/null || busybox --list-full > "$work/applets"
  while read -r applet; do
    path=$root/usr/bin/$(basename "$applet")
    [ -e "$path" ] || [ -L "$path" ] || ln -s busybox "$path"
  done < "$work/applets"
  [ -e "$root/usr/bin/sh" ] || ln -s busybox "$root/usr/bin/sh"

  mkdir -p "$root"/{dev,proc,sys,tmp,root,run,etc/ssl/certs,var/tmp,builds,cache}
  chmod 1777 "$root/tmp" "$root/var/tmp"
  chmod 0777 "$root/builds" "$root/cache"
  find "$root/usr/share/ca-certificates" -name '*.crt' | LC_ALL=C sort \
    | while read -r cert; do cat "$cert"; echo; done > "$root/etc/ssl/certs/ca-certificates.crt"
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n' > "$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' > "$root/etc/group"
  printf 'passwd: files\ngroup: files\nhosts: files dns\n' > "$root/etc/nsswitch.conf"
  printf '[filter "lfs"]\n\tclean = git-lfs clean -- %%f\n\tsmudge = git-lfs smudge -- %%f\n\tprocess = git-lfs filter-process\n\trequired = true\n' \
    > "$root/etc/gitconfig"

  pack "$root" . | gzip -9n > "$work/base.tar.gz"
  rm -f "$base.inputs"
  mv "$work/base.tar.gz" "$base.tar.gz"
  echo "$recipe" > "$base.inputs"
}

if [ ! -s "$base.tar.gz" ] || [ "$(cat "$base.inputs" 2> /dev/null)" != "$recipe" ]; then make_base; fi
gzip -dc "$base.tar.gz" > "$image/base.tar"

mkdir "$work/helper"
install -m 755 "$helper" "$work/helper/fleetling-helper"
pack "$work/helper" fleetling-helper > "$image/helper.tar"

digest() { sha256sum "$1" | cut -d' ' -f1; }
printf '{"architecture":"%s","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["/bin/sh"],"WorkingDir":"/","Labels":{"fleetling.version":"%s"}},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]},"history":[{"created":"1970-01-01T00:00:00Z","comment":"Debian packages: %s"},{"created":"1970-01-01T00:00:00Z","comment":"fleetling-helper"}]}' \
  "$arch" "$version" "$(digest "$image/base.tar")" "$(digest "$image/helper.tar")" "$PACKAGES" > "$image/config.json"
id=$(digest "$image/config.json")
mv "$image/config.json" "$image/$id.json"
printf '[{"Config":"%s.json","RepoTags":["fleetling-helper:%s"],"Layers":["base.tar","helper.tar"]}]' "$id" "$version" \
  > "$image/manifest.json"
pack "$image" manifest.json "$id.json" base.tar helper.tar | gzip -9n > "$work/$name.tar.gz"

bytes=$(stat -c %s "$work/$name.tar.gz")
[ "$bytes" -le "$MAX_BYTES" ] || stop "the image has $bytes bytes, more than the $MAX_BYTES it may have"
rm -f "$out/$name.inputs"
mv "$work/$name.tar.gz" "$out/$name.tar.gz"
echo "sha256:$id" > "$out/$name.id"
echo "$inputs" > "$out/$name.inputs"
echo "helper image: $out/$name.tar.gz, $((bytes / 1024 / 1024)) MB, sha256:$id"
