#!/usr/bin/env bash
# Build the default image as an OCI layout without Docker or Podman: image/build.sh FOLDER [Debian package ...]
# With packages, only those (python3 must be among them), without Node and Go: a small image in a minute.
# Needs root, mmdebstrap, umoci, npm and pip; fetches from the package mirrors that this machine is set up for.
set -euo pipefail
cd -P "$(dirname "$0")/.."
target=${1:?usage: image/build.sh FOLDER [Debian package ...]}
shift
node=22.16.0
go=golang-1.23
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mirror() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | sort -u | head -n 1; }
uri=$(mirror)
[ -n "$uri" ] || { echo 'build.sh: this machine has no mirror of Debian 12 among its apt sources' >&2; exit 1; }

if [ $# -gt 0 ]; then
    packages=("$@")
    sources=("deb $uri bookworm main")
else
    mapfile -t packages < <(grep -v '^#' image/packages.txt)
    packages+=("$go")
    sources=("deb $uri bookworm main" "deb $uri bookworm-updates main" "deb $uri bookworm-backports main")
fi
printf '==> installing %d packages\n' "${#packages[@]}"
mmdebstrap --quiet --variant=minbase --mode=root --include="$(IFS=,; echo "${packages[*]}")" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*/*' \
    bookworm "$work/root" "${sources[@]}"
rm -rf "$work/root/var/cache/apt" "$work/root/var/lib/apt/lists"

if [ $# -eq 0 ]; then
    echo '==> installing data packages'
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --only-binary=:all: --no-compile \
        --implementation cp --python-version 3.11 --target "$work/root/usr/local/lib/python3.11/dist-packages" \
        -r src/deskhand/sandboxes/kit.txt
    echo '==> installing Node'
    case $(uname -m) in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; *) echo "build.sh: no Node for this machine" >&2; exit 1 ;; esac
    (cd "$work" && npm pack --silent "node-linux-$arch@$node" npm@10 >/dev/null)
    mkdir -p "$work/root/usr/local/lib/node_modules/npm"
    tar -xzf "$work"/node-linux-*.tgz -C "$work/root/usr/local" --strip-components=1 package/bin/node
    tar -xzf "$work"/npm-*.tgz -C "$work/root/usr/local/lib/node_modules/npm" --strip-components=1
    for tool in npm npx; do ln -s "../lib/node_modules/npm/bin/$tool-cli.js" "$work/root/usr/local/bin/$tool"; done
    ln -s ../lib/go-1.23 "$work/root/usr/local/go"
fi

echo '==> writing the image'
rm -rf "$target"
umoci init --layout "$target"
umoci new --image "$target:latest"
tar -C "$work/root" --numeric-owner --sort=name --mtime=@0 -cf "$work/layer.tar" .
umoci raw add-layer --image "$target:latest" "$work/layer.tar"
umoci config --image "$target:latest" --config.env LANG=C.UTF-8 --config.workingdir /mnt/data \
    --config.env PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
printf '==> %s: serve with DESKHAND_CONTAINER_IMAGE=%s\n' "$target" "$(cd -P "$target" && pwd)"
